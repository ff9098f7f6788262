"""One connection to libvirt: which one, opened when first needed, and opened again when it drops."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from vmctl.errors import VmctlError
from vmctl_libvirt import uris
from vmctl_libvirt.libvirt_errors import LibvirtMissing, is_code, library, translated
from vmctl_libvirt.uris import AUTO, SESSION, SYSTEM

T = TypeVar("T")

SOCKET_DIRECTORY = Path("/run/libvirt")
SOCKETS = ("libvirt-sock", "virtqemud-sock")
DAEMONS = ("libvirtd", "virtqemud")
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


class Abilities(Struct, frozen=True):
    """Facts of an open connection that the rest of the provider branches on."""

    uri: str
    version: int
    """libvirt's version on the other side, as 1000000 * major + 1000 * minor + release."""
    is_local: bool
    """The hypervisor sees this host's files."""
    is_session: bool
    runs_guests: bool
    """It is QEMU; otherwise (libvirt's ``test`` driver) disks have no content and machines no processes."""

    @property
    def writes_pool(self) -> bool:
        """Whether this process may write the pool's files itself, instead of sending them through libvirt."""
        return self.runs_guests and self.is_local and (self.is_session or os.geteuid() == 0)


class LibvirtConnection:
    """A lazily opened ``virConnect``, shared by all threads.

    Args:
        uri: what the user asks for.
        made_at: where the project's machines are, by their records. ``auto`` means that then, where it could; a record
            is compared with what the user asks for, and never names what is opened.
    """

    def __init__(self, uri: str = AUTO, *, made_at: str = "") -> None:
        self.wanted = made_at if uri == AUTO and made_at in (SYSTEM, SESSION) else uri
        self._made_at = made_at
        self._open: Any = None
        self._lock = threading.RLock()

    def run(self, call: Callable[[Any], T], doing: str) -> T:
        """``call`` with the open connection; once more with a new one when the old one dropped.

        Raises:
            VmctlError: libvirt refused, or could not be asked; its own words are the details.
        """
        libvirt = library()
        try:
            return call(self._connected())
        except libvirt.libvirtError as error:
            if not self._dropped():
                raise translated(error, doing) from error
        try:
            return call(self._connected())
        except libvirt.libvirtError as error:
            raise translated(error, doing) from error

    @cached_property
    def abilities(self) -> Abilities:
        """What the other side can do; opens the connection."""
        return self.run(_abilities, "describe itself")

    def close(self) -> None:
        """Close the connection, if open."""
        with self._lock:
            opened, self._open = self._open, None
        if opened is not None:
            opened.close()

    def _connected(self) -> Any:
        with self._lock:
            if self._open is None:
                self._open = self._open_checked()
            return self._open

    def _open_checked(self) -> Any:
        if self._made_at and self.wanted == AUTO:
            raise self._is_elsewhere(f"which `uri: {AUTO}` does not mean")
        opened = open_uri(self.wanted)
        if self._made_at and opened.getURI() != self._made_at:
            raise self._is_elsewhere(f"not at {opened.getURI()}")
        return opened

    def _is_elsewhere(self, why: str) -> VmctlError:
        if problem := uris.problem(self._made_at):
            return VmctlError(f"this project's machines are recorded at {self._made_at!r}", details=f"That {problem}.")
        return VmctlError(
            f"this project's machines are at {self._made_at}, {why}",
            hint=f"set `libvirt: {{uri: {self._made_at}}}` in its Vmfile",
        )

    def _dropped(self) -> bool:
        with self._lock:
            if self._open is not None and not _is_alive(self._open):
                self._open = None
            return self._open is None


def _is_alive(opened: Any) -> bool:
    try:
        return bool(opened.isAlive())
    except library().libvirtError:
        return False


def open_uri(wanted: str) -> Any:
    """A read-write connection to ``wanted``; ``auto`` is the system's libvirt, else (not for root) the user's own.

    Raises:
        UsageError: ``wanted`` names what vmctl does not connect to.
        VmctlError: it cannot be opened; the hint says how to start it.
    """
    uris.check(wanted)
    libvirt = library()
    is_root = os.geteuid() == 0
    if wanted == SESSION and is_root:
        raise VmctlError(f"libvirt does not offer {SESSION} to root", hint=f"use `uri: {SYSTEM}` or `uri: auto`")
    try:
        return libvirt.open(SYSTEM if wanted == AUTO else wanted)
    except libvirt.libvirtError as error:
        if wanted != AUTO or is_root:
            raise _unreachable(SYSTEM if wanted == AUTO else wanted, error) from error
    try:
        return libvirt.open(SESSION)
    except libvirt.libvirtError as error:
        raise _unreachable(SESSION, error) from error


def why_unusable(wanted: str) -> str:
    """Why ``wanted`` cannot be opened here, told without opening it; "" when nothing speaks against it."""
    try:
        library()
    except LibvirtMissing as error:
        return f"{error.brief} ({error.hint})"
    parts = urlsplit(wanted)
    if wanted != AUTO and (parts.netloc or parts.scheme.partition("+")[0] != "qemu"):
        return ""  # another host, or another hypervisor: only opening it can tell
    if not any(shutil.which(name) or shutil.which(name, path=SBIN) for name in DAEMONS):
        return "libvirt is not installed (sudo apt-get install libvirt-daemon-system qemu-system-x86)"
    sockets = any((SOCKET_DIRECTORY / name).exists() for name in SOCKETS)
    needs_system = wanted == SYSTEM or os.geteuid() == 0
    return f"libvirtd does not run ({_start_hint()})" if needs_system and not sockets else ""


def _unreachable(uri: str, error: Exception) -> VmctlError:
    hint = ""
    if uri.startswith("qemu:///"):
        hint = _start_hint()
        if is_code(error, "VIR_ERR_AUTH_UNAVAILABLE", "VIR_ERR_AUTH_FAILED", "VIR_ERR_AUTH_CANCELLED") or (
            "Permission denied" in str(error)
        ):
            hint = "sudo adduser $USER libvirt    # then log in again; or use `uri: qemu:///session`"
    return VmctlError(f"cannot connect to libvirt at {uri}", details=str(error), hint=hint)


def _start_hint() -> str:
    if Path("/run/systemd/system").is_dir():
        return "sudo systemctl start libvirtd"
    # Without an init system nobody reaps the daemon's orphans, and libvirtd waits for them: hence tini.
    return "sudo sh -c 'tini -s -- virtlogd & tini -s -- libvirtd &'"


def _abilities(connection: Any) -> Abilities:
    parts = urlsplit(connection.getURI())
    is_qemu = connection.getType() == "QEMU"
    return Abilities(
        uri=connection.getURI(),
        version=connection.getLibVersion(),
        is_local=not parts.netloc,
        is_session=parts.path == "/session",
        runs_guests=is_qemu,
    )
