"""Names of boxes: which are valid, how they become file names, which one an image gets that has none.

Names of recipes and of the built-in catalogue mean a box of vmctl's own: no other box may take them.
"""

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
RESERVABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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


def is_reserved(name: str) -> bool:
    """Whether a name is a recipe's or a built-in box's. Parses nothing: every command that reads a Vmfile asks."""
    import vmctl_boxes

    if not RESERVABLE.fullmatch(name):
        return False
    tables = {f"[{name}]", f'["{name}"]'}
    catalogue = vmctl_boxes.RECIPES / "catalogue"
    return (vmctl_boxes.RECIPES / name / "recipe.toml").is_file() or any(
        not tables.isdisjoint(path.read_text(encoding="utf-8").splitlines()) for path in catalogue.glob("*.toml")
    )


def check_reserved(name: str, origin: str) -> None:
    """See that a box from that origin may have the name.

    Raises:
        UsageError: it is the name of a box of vmctl's own, and this is another.
    """
    if origin != name and is_reserved(name):
        raise UsageError(
            f"the name {name} belongs to a box of vmctl's own, which this is not",
            details="Every project that says so would start from this one.",
            hint=f"vmctl box add … --name my-{name}",
        )
