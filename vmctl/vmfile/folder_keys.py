"""How ``synced_folders:`` is written: HOST:GUEST[:ro], or a mapping."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any, get_args

from vmctl.spec import Folder, FolderKind
from vmctl.vmfile.box_refs import absolute
from vmctl.vmfile.faults import describe
from vmctl.vmfile.kinds import Kind, One, choice, flag, parsed, text
from vmctl.vmfile.nodes import Source, Table
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Either, Field, ListOf, TableOf

WHAT = "HOST:GUEST[:ro]"
DEFAULT_GUEST = "/project"
SYSTEM = frozenset(
    f"/{name}" for name in
    ("bin", "boot", "dev", "etc", "home", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var")
)  # fmt: skip
"""Mounting over one of these hides the guest's own system."""


def parse_folder(value: Any, source: Source) -> Folder:
    """A synced folder in its short form.

    Raises:
        Mismatch: it is none, or the host's directory is not there.
    """
    parts = value.split(":") if isinstance(value, str) else []
    if len(parts) not in (2, 3) or not all(parts):
        raise Mismatch(f"expected {WHAT}, got {describe(value)}")
    host, guest, mode = (*parts, "rw")[:3]
    if mode not in ("ro", "rw"):
        raise Mismatch(f"unknown folder mode '{mode}'; use ro or rw")
    return Folder(host=parse_directory(host, source), guest=parse_guest(guest), read_only=mode == "ro")


def parse_directory(value: Any, source: Source) -> Path:
    """An existing directory of the host.

    Raises:
        Mismatch: there is none.
    """
    if not isinstance(value, str) or not value:
        raise Mismatch(f"expected a directory of the host, got {describe(value)}")
    path = absolute(value, source)
    try:
        found = path.is_dir()
    except OSError as error:
        raise Mismatch(f"the host's {path} cannot be looked at: {error.strerror}") from error
    if not found:
        raise Mismatch(f"{path} is not a directory" if path.exists() else f"the host has no directory {path}")
    return path


def parse_guest(value: Any) -> str:
    """An absolute directory of the guest that does not hide its system.

    Raises:
        Mismatch: it is none.
    """
    if not isinstance(value, str) or not value.startswith("/"):
        raise Mismatch(f"expected an absolute path in the guest, got {describe(value)}")
    if ".." in value.split("/") or any(character < " " for character in value):
        raise Mismatch(f"the guest's path {describe(value)} holds '..' or control characters")
    path = "/" + posixpath.normpath(value).lstrip("/")
    if path == "/" or path in SYSTEM:
        raise Mismatch(f"a folder at {path} would hide the guest's own system")
    return path


def write(folder: Folder) -> dict[str, Any]:
    """The folder as a Vmfile would write it."""
    return {
        "host": str(folder.host),
        "guest": folder.guest,
        "type": folder.kind,
        "read_only": folder.read_only,
        "exclude": list(folder.exclude),
    }


def summary(folder: Folder) -> str:
    """The folder as records keep it."""
    return f"{folder.host}:{folder.guest} {folder.kind}{' read-only' if folder.read_only else ''}"


def _build(values: dict[str, Any], table: Table, at: Reading) -> Folder:
    kind = values.pop("type", "auto")
    folder = Folder(kind=kind, **values)
    if folder.exclude and kind not in ("auto", "rsync"):
        at.reject(table, f"exclude works with rsync only, not with {kind}")
    return folder


FOLDER: Kind = Either(
    One(WHAT, parse_folder, {"type": "string", "pattern": r"^[^:]+:/[^:]+(:(ro|rw))?$"}),
    TableOf(
        {
            "host": Field(
                One("a directory of the host", parse_directory, {"type": "string", "minLength": 1}),
                "Directory on the host; relative to this file.",
                required=True,
            ),
            "guest": Field(
                parsed("an absolute path in the guest", parse_guest, {"type": "string", "pattern": "^/."}),
                "Directory in the guest; made where it is absent.",
                required=True,
            ),
            "type": Field(
                choice(*get_args(FolderKind)),
                "How it is shared; auto = the best that host and guest can.",
                default="auto",
            ),
            "read_only": Field(flag(), "Whether the guest cannot write to it.", default=False),
            "exclude": Field(ListOf(text()), "rsync patterns that are not sent.", default=[]),
        },
        _build,
    ),
    f"{WHAT} or a mapping",
)
