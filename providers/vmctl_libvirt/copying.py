"""Copy a disk image into a file that exists: by reference where the file system can, without its holes elsewhere."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from vmctl import interrupt
from vmctl.errors import VmctlError

FICLONE = 0x40049409
BUFFER = 1024**2  # bytes in memory at a time, where the kernel does not copy by itself
CHUNK = 16 * 1024**2


def copy_into(source: Path, target: Path, mode: int) -> None:
    """Make ``target`` (a new, empty file of ours) hold what ``source`` holds, on disk, with permissions ``mode``.

    Raises:
        VmctlError: reading or writing failed.
        Interrupted: the user asked to stop.
    """
    try:
        with source.open("rb") as reader, target.open("r+b") as writer:
            _copy(reader.fileno(), writer.fileno())
            os.fchmod(writer.fileno(), mode)
            os.fsync(writer.fileno())
    except OSError as error:
        raise VmctlError(f"cannot copy {source} to {target}", details=str(error), hint="df -h") from error


def _copy(reader: int, writer: int) -> None:
    try:
        fcntl.ioctl(writer, FICLONE, reader)
    except OSError:  # another file system, or one that cannot
        _copy_data(reader, writer)


def _copy_data(reader: int, writer: int) -> None:
    size = os.fstat(reader).st_size
    os.truncate(writer, size)
    position = 0
    while position < size:
        try:
            start = os.lseek(reader, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        position = os.lseek(reader, start, os.SEEK_HOLE)
        _copy_range(reader, writer, start, position)


def _copy_range(reader: int, writer: int, start: int, end: int) -> None:
    while start < end:
        interrupt.check()
        copied = _copy_some(reader, writer, min(CHUNK, end - start), start)
        if copied == 0:
            raise OSError(errno.EIO, "the image became shorter while it was copied")
        start += copied


def _copy_some(reader: int, writer: int, count: int, offset: int) -> int:
    """Copy in the kernel, or by hand between file systems (or mounts) that it does not copy between."""
    try:
        return os.copy_file_range(reader, writer, count, offset, offset)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return os.pwrite(writer, os.pread(reader, min(count, BUFFER), offset), offset)
