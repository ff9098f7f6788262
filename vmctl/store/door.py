"""The one door to vmctl's own files: directory descriptors that follow no link, and nothing that others can change.

Below the data directory ($VMCTL_HOME) each directory and file must belong to the user (or to root). What lies in a
project's ``.vmctl`` may be changed by the project's guests: it is opened without following links, and never believed.
Elsewhere only the last part of a path is not followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vmctl.errors import VmctlError, shell_command
from vmctl.layout import PROJECT_DIRECTORY, home

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
LINK = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO)
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO in a file's place must not make vmctl wait


class ForeignFile(VmctlError):
    """Something lies in the place of one of vmctl's files: a link, a special file, or somebody else's."""

    kind = "NotOurs"


@contextlib.contextmanager
def directory(path: Path, *, make: bool = False) -> Iterator[int]:
    """A descriptor of a directory; ``make`` makes it, and its parents, private (0700 whatever the umask).

    Raises:
        ForeignFile: a link (or a file) stands in its place, or somebody else owns it.
        FileNotFoundError: it is not there.
    """
    base, names, ours = _anchor(path)
    if ".." in names:
        raise _strange(path, "it leads out of its directory")
    handle = _open_base(base, make=make, ours=ours)
    try:
        for index, name in enumerate(names):
            inner = _enter(handle, name, base.joinpath(*names[: index + 1]), make=make, ours=ours)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def open_file(path: Path, flags: int, *, make: bool = False) -> int:
    """A descriptor of a plain file of ours (0600 when it is made); ``flags`` as ``os.open`` takes them.

    Raises:
        ForeignFile: a link or a special file stands in its place, or somebody else owns it.
        FileNotFoundError: it is not there, and ``flags`` do not say to make it.
    """
    with directory(path.parent, make=make) as parent:
        try:
            handle = os.open(path.name, flags & ~os.O_TRUNC | PLAIN, PRIVATE_FILE, dir_fd=parent)
        except OSError as error:
            error.filename = str(path)
            if error.errno in LINK:
                raise _strange(path, "it is a symbolic link or a special file") from error
            raise
    try:
        _require_plain(os.fstat(handle), path)
        if flags & os.O_TRUNC:  # not by open: somebody else's file would be empty before it is refused
            os.ftruncate(handle, 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


def exists(path: Path) -> bool:
    """Whether a plain file or directory of ours is there; a link is none."""
    try:
        with directory(path.parent) as parent:
            mode = os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def names(path: Path) -> list[str]:
    """The names in a directory of ours, sorted; none when it is not there."""
    try:
        with directory(path) as handle:
            return sorted(os.listdir(handle))  # noqa: PTH208  of a descriptor
    except FileNotFoundError:
        return []


def _anchor(path: Path) -> tuple[Path, tuple[str, ...], bool]:
    """Where the door stands: the directory to begin with, the names below it, and whether all must be ours."""
    root = home()
    if path.is_relative_to(root):
        return root, path.relative_to(root).parts, True
    parts = path.parts
    if PROJECT_DIRECTORY in parts:
        index = parts.index(PROJECT_DIRECTORY)
        return Path(*parts[:index]), parts[index:], False
    return path, (), False


def _require_plain(found: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise _strange(path, "it is a special file")
    if _is_home(path):
        _require_owner(found, path)


def _is_home(path: Path) -> bool:
    return path.is_relative_to(home())


def _open_base(base: Path, *, make: bool, ours: bool) -> int:
    try:
        handle = os.open(base, DIRECTORY)
    except FileNotFoundError:
        if not make:
            raise
        _make_parents(base)
        handle = os.open(base, DIRECTORY)
    if ours:
        _require_private(handle, base)
    return handle


def _make_parents(path: Path) -> None:
    """As ``mkdir -p``, with the mode 0700 for each directory that is made, not for the last alone."""
    missing = [path, *path.parents]
    for one in reversed([directory for directory in missing if not directory.exists()]):
        with contextlib.suppress(FileExistsError):
            one.mkdir(mode=PRIVATE_DIRECTORY)


def _enter(parent: int, name: str, path: Path, *, make: bool, ours: bool) -> int:
    try:
        handle = _open_directory(parent, name, make=make)
    except OSError as error:
        error.filename = str(path)
        if error.errno in LINK:
            raise _strange(path, "it is not a directory: a file or a link is in its place") from error
        raise
    if ours:
        try:
            _require_private(handle, path)
        except BaseException:
            os.close(handle)
            raise
    return handle


def _open_directory(parent: int, name: str, *, make: bool) -> int:
    flags = DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, PRIVATE_DIRECTORY, dir_fd=parent)
    return os.open(name, flags, dir_fd=parent)


def _require_private(handle: int, path: Path) -> None:
    """See that a directory is ours, and that nobody else can put anything there: an older vmctl obeyed any umask."""
    found = os.fstat(handle)
    _require_owner(found, path)
    if found.st_mode & OTHERS_WRITE and found.st_uid == os.geteuid():
        os.fchmod(handle, stat.S_IMODE(found.st_mode) & ~OTHERS_WRITE)


def _require_owner(found: os.stat_result, path: Path) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise _strange(path, f"it belongs to the user with the number {found.st_uid}")


def _strange(path: Path, why: str) -> ForeignFile:
    return ForeignFile(f"{path} is not what vmctl made", details=why, hint=shell_command("ls", "-ld", "--", path))
