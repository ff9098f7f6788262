"""Atomic writes: a reader (or the next vmctl after a kill -9) sees the old content or the new, never a part."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from vmctl.errors import VmctlError

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def make_directory(path: Path) -> Path:
    """Make a private directory (0700) and its parents; an existing one is left as it is."""
    path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    return path


def write(path: Path, data: bytes | str, *, mode: int = PRIVATE_FILE) -> None:
    """Replace the file's content durably (temp file in the same directory, fsync, rename, fsync of the directory)."""
    raw = data.encode() if isinstance(data, str) else data
    write_with(path, lambda stream: stream.write(raw), mode=mode)


def write_with(path: Path, fill: Callable[[BinaryIO], object], *, mode: int = PRIVATE_FILE) -> None:
    """As ``write``; ``fill`` writes the content to the stream that it is given."""
    make_directory(path.parent)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            fill(stream)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk: the system does not say whose
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and removals in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, mode: int = PRIVATE_FILE) -> None:
    """Replace the file with ``value`` as indented JSON."""
    write(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", mode=mode)


def read_json(path: Path) -> Any | None:
    """The file's content, which is never JSON's null; None when there is no such file.

    Raises:
        VmctlError: the file is there but holds no JSON: somebody edited it, or the disk is damaged.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        value = json.loads(raw.decode())
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if value is None:
        raise damaged(path, "it holds nothing")
    return value


def damaged(path: Path, why: str) -> VmctlError:
    """The error for a file of ours that does not say what it should; vmctl itself never removes it."""
    return VmctlError(f"{path} is damaged", details=why, hint=f"mv '{path}' '{path}.damaged'")


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it; nothing there is fine. Links are removed, never followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
