"""Disk space: asked for before much is written, and one clear error when it runs out."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmctl.errors import VmctlError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class NoSpace(VmctlError):
    """The disk is full, or will be."""


def readable(size: float) -> str:
    """A size for people: "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004  the step between units
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def require(directory: Path, size: int, purpose: str) -> None:
    """See that ``size`` more bytes fit.

    Raises:
        NoSpace: they do not.
    """
    free = shutil.disk_usage(directory).free
    if size > free:
        raise NoSpace(
            f"there is not enough disk space {purpose}",
            details=f"{readable(size)} are needed, {readable(free)} are free in {directory}",
            hint="vmctl box list   # then: vmctl box remove NAME",
        )


@contextmanager
def needed(directory: Path, purpose: str) -> Iterator[None]:
    """Turn a full disk inside the block into one clear error.

    Raises:
        NoSpace: the disk became full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(directory).free
        raise NoSpace(
            f"the disk became full while trying {purpose}",
            details=f"{error.strerror}; {readable(free)} are free in {directory}",
            hint="vmctl box list   # then: vmctl box remove NAME",
        ) from error
