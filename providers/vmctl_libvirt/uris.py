"""Which libvirt a URI may name: one of this host, or one reached by SSH or TLS, and nothing that starts a program.

libvirt's own URIs can do more: ``qemu+ext:///system?command=…`` runs any program, as do ``netcat``, ``proxy`` and
other parameters; ``socket``, ``keyfile`` and ``pkipath`` open any file (https://libvirt.org/uri.html). A Vmfile comes
from elsewhere, and `vmctl status` already connects. What libvirt reads of the user's own (``LIBVIRT_DEFAULT_URI``,
``uri_aliases`` in libvirt.conf) stands for names that are no URIs, which are refused here.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from vmctl.errors import UsageError

AUTO = "auto"
SYSTEM = "qemu:///system"
SESSION = "qemu:///session"
EXAMPLES = f"{SYSTEM}, {SESSION} or qemu+ssh://USER@HOST/system"
LOCAL = ("", "unix")
REMOTE = ("", "tls", "ssh", "libssh", "libssh2")
"""The first one: libvirt takes a host without a transport for TLS."""
PATHS = ("/system", "/session")
PARAMETERS = frozenset({"no_tty", "mode"})
"""Whether ssh may ask, and how the far side's daemon is found: neither names a program, a file or a host."""
HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]*\$?")
VALUE = re.compile(r"[A-Za-z0-9]+")


def problem(uri: str) -> str:
    """Why vmctl does not connect to ``uri``; "" = it may."""
    if uri == AUTO:
        return ""
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as error:
        return f"is not a URI: {error}"
    hypervisor, _, transport = parts.scheme.partition("+")
    if uri != uri.strip() or not uri.isprintable() or parts.fragment or hypervisor not in ("qemu", "test"):
        return f"must be auto or a libvirt URI such as {EXAMPLES}"
    if hypervisor == "test":  # libvirt's fake hypervisor, inside this process
        return "must be test:///default or test:///FILE" if transport or parts.netloc or parts.query else ""
    return _problem_of_place(parts, transport) or _problem_of_parameters(parts)


def check(uri: str) -> None:
    """Refuse a URI that vmctl does not connect to.

    Raises:
        UsageError: with the reason.
    """
    if why := problem(uri):
        raise UsageError(f"libvirt.uri: {uri!r} {why}", hint=f"use `uri: auto`, or {EXAMPLES}")


def _problem_of_place(parts: SplitResult, transport: str) -> str:
    if transport not in (REMOTE if parts.netloc else LOCAL):
        ways = "ssh and tls" if parts.netloc else "a local socket"
        return f"uses the transport {transport!r}; possible here: {ways}"
    if parts.path not in PATHS:
        return f"has the path {parts.path!r}; possible: {', '.join(PATHS)}"
    if not parts.netloc:
        return ""
    user, at, _ = parts.netloc.rpartition("@")
    if not HOST.fullmatch(parts.hostname or "") or (at and not USER.fullmatch(user)):
        return "names no host, or one with other characters than host names have"
    return ""


def _problem_of_parameters(parts: SplitResult) -> str:
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in PARAMETERS:
            return f"has the parameter {name!r}, which can name a program or a file; put it into ~/.ssh/config instead"
        if not VALUE.fullmatch(value):
            return f"has an invalid value of {name!r}"
    return ""
