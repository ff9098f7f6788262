"""Atomic writes: a reader (or the next vmctl after a kill -9) sees the old content or the new, never a part."""

from __future__ import annotations

import errno
import itertools
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from vmctl import json_text
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
        value = json_text.loads(raw.decode())
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if value is None:
        raise damaged(path, "it holds nothing")
    return value


def damaged(path: Path, why: str) -> VmctlError:
    """The error for a file of ours that does not say what it should; vmctl itself never removes it."""
    return VmctlError(f"{path} is damaged", details=why, hint=f"mv '{path}' '{path}.damaged'")


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it, however deep; nothing there is fine. Links are removed, never followed.

    What is further down is first moved up: no call of its own for each level, no long path, and never more than two
    open directories. A tree that is left half removed can be removed by another call.

    Raises:
        OSError: something in it may not be removed.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except NotADirectoryError:  # a file or a link: not ours to remove
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    with suppress(FileNotFoundError):
        path.rmdir()


def _empty(top: int) -> None:
    """Remove everything in the directory that ``top`` is open on."""
    mark = os.urandom(8).hex()
    fresh = (f".{mark}-{number}" for number in itertools.count())
    waiting = _unlinked(top)
    while waiting:
        name = waiting.pop()
        if _gone(top, name):
            continue
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
        try:
            for child in _unlinked(inner):
                if not _gone(inner, child):
                    up = next(fresh)
                    os.rename(child, up, src_dir_fd=inner, dst_dir_fd=top)
                    waiting.append(up)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)


def _unlinked(directory: int) -> list[str]:
    """Remove what is no directory; the names of the directories."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
    return [name for name, is_directory in found if is_directory]


def _gone(directory: int, name: str) -> bool:
    """Whether the directory ``name`` is not there any more; an empty one is removed."""
    try:
        os.rmdir(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
