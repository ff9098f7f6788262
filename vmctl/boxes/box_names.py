"""Names of boxes: which are valid, how they become file names, which one an image gets that has none."""

from __future__ import annotations

import platform
import posixpath
import re
from urllib.parse import quote, unquote, urlsplit

from vmctl.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
ARCH = re.compile(r"[A-Za-z0-9_]{1,32}")
USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")
"""More than a Vmfile takes: also what domains and appliances call their users."""
SUFFIXES = (
    ".gz",
    ".xz",
    ".zst",
    ".bz2",
    ".qcow2",
    ".img",
    ".raw",
    ".box",
    ".ova",
    ".vmdk",
    ".vdi",
    ".vhdx",
    ".vhd",
    ".zip",
    ".tar",
)
ARCHES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
LONGEST = 100


def check(name: str) -> str:
    """``name``, which is one that a box may have.

    Raises:
        UsageError: it is not.
    """
    if not is_name(name):
        raise UsageError(
            f"invalid box name {name!r}",
            details="Letters, digits and ._- are; one / may stand between.",
            hint="vmctl box add FILE --name my-box",
        )
    return name


def to_path(name: str) -> str:
    """One path component for a name, version or architecture; different names never collide."""
    encoded = quote(name, safe="+")
    return encoded.replace(".", "%2E") if not encoded.strip(".") else encoded


def from_path(component: str) -> str:
    """The name that ``to_path`` encoded."""
    return unquote(component)


def of_address(address: str) -> str:
    """A name for an image that comes from a path or URL: its file name without endings and strange characters."""
    base = posixpath.basename(urlsplit(address).path if "://" in address else address)
    while base.lower().endswith(SUFFIXES):
        base = base[: base.rindex(".")]
    return label(unquote(base))


def label(text: str) -> str:
    """What to call a box whose own name is none that a box may have. No name: two texts may get one label."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:LONGEST].rstrip("-._") or "box"


def is_name(text: str) -> bool:
    """Whether a box may have this name."""
    return NAME.fullmatch(text) is not None and len(text) <= LONGEST


def check_architecture(name: str) -> str:
    """``name``, which can be a word for an architecture.

    Raises:
        UsageError: it cannot.
    """
    return _checked(name, ARCH, "architecture", "--arch aarch64")


def check_user(name: str) -> str:
    """``name``, which a login user may have.

    Raises:
        UsageError: it may not.
    """
    return _checked(name, USER, "user name", "--user admin")


def _checked(name: str, pattern: re.Pattern[str], what: str, example: str) -> str:
    if not pattern.fullmatch(name):
        raise UsageError(f"invalid {what} {name!r}", hint=f"vmctl box add FILE {example}")
    return name


def architecture(name: str) -> str:
    """One word for each architecture, as the kernel says it: amd64 → x86_64."""
    return ARCHES.get(name, name)


def host_architecture() -> str:
    """This host's."""
    return architecture(platform.machine())
