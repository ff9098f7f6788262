"""vmctl's own files, through ``vmctl.store.door``; writes are atomic.

A reader (or the next vmctl after a kill -9) sees the old content or the new, never a part.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from vmctl import json_text
from vmctl.errors import VmctlError, shell_command
from vmctl.store import door
from vmctl.store.door import PRIVATE_DIRECTORY, PRIVATE_FILE

__all__ = ["PRIVATE_DIRECTORY", "PRIVATE_FILE"]

LONGEST_JSON = 64 * 1024**2
"""Of any file of ours; whoever reads what others may have written says less."""


def make_directory(path: Path) -> Path:
    """Make a private directory (0700) and its parents; an existing one is left as it is."""
    with door.directory(path, make=True):
        return path


def write(path: Path, data: bytes | str, *, mode: int = PRIVATE_FILE) -> None:
    """Replace the file's content durably (temp file in the same directory, fsync, rename, fsync of the directory)."""
    raw = data.encode() if isinstance(data, str) else data
    write_with(path, lambda stream: stream.write(raw), mode=mode)


def write_with(path: Path, fill: Callable[[BinaryIO], object], *, mode: int = PRIVATE_FILE) -> None:
    """As ``write``; ``fill`` writes the content to the stream that it is given."""
    with door.directory(path.parent, make=True) as parent:
        temporary = f".{path.name}.{secrets.token_hex(4)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(temporary, flags, PRIVATE_FILE, dir_fd=parent), "w+b") as stream:
                fill(stream)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            os.replace(temporary, path.name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException as error:
            with contextlib.suppress(OSError):  # what has failed is told, not what its clean-up meets
                os.unlink(temporary, dir_fd=parent)
            if isinstance(error, OSError) and error.filename in (None, temporary):
                error.filename, error.filename2 = str(path), None  # a full disk: the system does not say whose
            raise
        os.fsync(parent)


def replace_content(path: Path, text: str) -> None:
    """Write a file in place: for what is of use for a moment alone, and may be cut."""
    handle = door.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, make=True)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)


def append(path: Path, text: str, *, sync: bool = False) -> None:
    """Add to a file's end, which is made where it is absent; ``sync``: it is on disk when this returns."""
    handle = door.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, make=True)
    with os.fdopen(handle, "a", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        if sync:
            os.fsync(handle)


def read(path: Path) -> bytes:
    """The file's content.

    Raises:
        FileNotFoundError: there is none.
        door.ForeignFile: something else is in its place.
    """
    with open_to_read(path) as stream:
        return stream.read()


def open_to_read(path: Path) -> BinaryIO:
    """The file, open for reading; errors as of ``read``."""
    return os.fdopen(door.open_file(path, os.O_RDONLY), "rb")


def exists(path: Path) -> bool:
    """Whether the file (or directory) is there; a link in its place is none of ours."""
    return door.exists(path)


def names(path: Path) -> list[str]:
    """The names in a directory, sorted; none when it is not there."""
    return door.names(path)


def size(path: Path) -> int:
    """The file's size in bytes; 0 when it is not there."""
    try:
        with open_to_read(path) as stream:
            return os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        return 0


def rename(path: Path, name: str) -> None:
    """Give a file another name in its directory; one of that name is replaced."""
    with door.directory(path.parent) as parent:
        os.replace(path.name, name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)


def remove(path: Path) -> None:
    """Remove a file or a link; nothing there is fine."""
    with contextlib.suppress(FileNotFoundError), door.directory(path.parent) as parent:
        os.unlink(path.name, dir_fd=parent)


def remove_empty(path: Path) -> None:
    """Remove a directory that is empty; any other stays."""
    with contextlib.suppress(OSError), door.directory(path.parent) as parent:
        os.rmdir(path.name, dir_fd=parent)


def sync(path: Path) -> None:
    """Make what was written to a file durable."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_directory(path: Path) -> None:
    """Make renames and removals in a directory durable."""
    with door.directory(path) as handle:
        os.fsync(handle)


def write_json(path: Path, value: Any, *, mode: int = PRIVATE_FILE) -> None:
    """Replace the file with ``value`` as indented JSON."""
    write(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", mode=mode)


def read_json(path: Path, *, most: int = LONGEST_JSON) -> Any | None:
    """The file's content, which is never JSON's null; None when there is no such file.

    Raises:
        VmctlError: the file is there but holds no JSON of at most ``most`` bytes: somebody edited it, or the disk is
            damaged.
    """
    try:
        with open_to_read(path) as stream:
            raw = stream.read(most + 1)
    except FileNotFoundError:
        return None
    if len(raw) > most:
        raise damaged(path, f"it is longer than {most} bytes")
    try:
        value = json_text.loads(raw.decode())
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if value is None:
        raise damaged(path, "it holds nothing")
    return value


def damaged(path: Path, why: str) -> VmctlError:
    """The error for a file of ours that does not say what it should; vmctl itself never removes it."""
    return VmctlError(f"{path} is damaged", details=why, hint=shell_command("mv", "--", path, f"{path}.damaged"))


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it, however deep; nothing there is fine. Links are removed, never followed.

    Raises:
        OSError: something in it may not be removed.
    """
    with contextlib.suppress(FileNotFoundError), door.directory(path.parent) as parent:
        try:
            top = os.open(path.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except NotADirectoryError:  # a file or a link: not ours to remove
            return
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(path.name, dir_fd=parent)


def _empty(top: int) -> None:
    """Remove everything in the directory that ``top`` is open on.

    What is further down is first moved up: no call of its own for each level, no long path, and never more than two
    open directories. A tree that is left half removed can be removed by another call.

    Raises:
        OSError: something in it may not be removed.
    """
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
    """Remove what is not a directory; the names of the directories."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            with contextlib.suppress(FileNotFoundError):
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
