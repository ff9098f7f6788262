"""How ``box:`` is written: NAME[@CONSTRAINT], a path or a URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vmctl.errors import UsageError
from vmctl.spec import BoxRef
from vmctl.vmfile.faults import describe
from vmctl.vmfile.kinds import One
from vmctl.vmfile.nodes import Source
from vmctl.vmfile.quantities import Mismatch

WHAT = "a box: NAME[@CONSTRAINT], a path or a URL"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
CONSTRAINT = re.compile(r"\s*(=|!=|>|<|>=|<=|~>)?\s*[0-9][0-9A-Za-z.+-]*\s*")
SCHEMES = ("http", "https", "file", "oci")
PATTERN = rf"^\s*(\.?\.?/.*|\.\.?|~.*|({'|'.join(SCHEMES)})://\S+|{NAME.pattern}(@[^@]*[0-9][^@]*)?)\s*$"
IMAGE_SUFFIXES = (".box", ".qcow2", ".img", ".raw", ".vmdk", ".vdi", ".vhdx", ".ova", ".ovf")


def parse_box(value: Any, source: Source) -> BoxRef:
    """The box that a text names; paths start from the file that holds the text.

    Raises:
        Mismatch: it names none.
    """
    if not isinstance(value, str) or not value.strip():
        raise Mismatch(f"expected {WHAT}, got {describe(value)}")
    address = value.strip()
    if "://" in address:
        return _url(address)
    if address.startswith(("/", "./", "../", "~")) or address in (".", ".."):
        return BoxRef(address=str(absolute(address, source)))
    return _named(address)


def absolute(path: str, source: Source) -> Path:
    """An absolute path, ``~`` expanded, relative paths from the source's directory; ``..`` resolved by name only.

    Raises:
        Mismatch: there is no such home directory, or the path cannot exist.
    """
    if "\x00" in path:
        raise Mismatch("a path cannot hold a NUL character")
    try:
        expanded = Path(path).expanduser()
    except RuntimeError as error:
        raise Mismatch(f"{describe(path)}: {error}") from error
    parts: list[str] = []
    for part in (source.directory / expanded).parts[1:]:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
    return Path("/", *parts)


def _url(address: str) -> BoxRef:
    scheme, _, rest = address.partition("://")
    if scheme not in SCHEMES:
        raise Mismatch(f"unsupported URL scheme '{scheme}'; boxes come from {', '.join(SCHEMES)}")
    if not rest.strip("/") or re.search(r"\s", address):
        raise Mismatch(f"invalid URL {describe(address)}")
    if scheme == "oci":
        _check_registry(address)
    return BoxRef(address=address)


def _check_registry(address: str) -> None:
    from vmctl.boxes.oci.reference import Reference

    try:
        Reference.parse(address)
    except UsageError as error:
        raise Mismatch(f"{error.brief}: {error.details or error.hint}") from error


def _named(text: str) -> BoxRef:
    name, at, constraint = text.partition("@")
    if name.endswith(IMAGE_SUFFIXES) and not at:
        raise Mismatch(f"'{name}' looks like a file; write ./{name}")
    if not NAME.fullmatch(name):
        raise Mismatch(f"invalid box name {describe(name)}")
    parts = constraint.split(",") if at else []
    for part in parts:
        if not CONSTRAINT.fullmatch(part):
            raise Mismatch(f"invalid version constraint {describe(part)}; write {name}@1.2.0 or {name}@~>1.2,!=1.2.3")
    return BoxRef(address=name, constraint=",".join(re.sub(r"\s", "", part) for part in parts))


BOX = One(WHAT, parse_box, {"type": "string", "pattern": PATTERN})
