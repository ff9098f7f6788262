"""Disk space: asked for before much is written, and one clear error when it runs out."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmctl.errors import VmctlError
from vmctl.units import readable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
KEPT = 1024**3
KEPT_SHARE = 20
"""vmctl leaves ``KEPT`` bytes, or this share of a smaller disk, to running machines and everything else."""
STEP = 32 * 1024**2


class NoSpace(VmctlError):
    """The disk is full, or will be."""


def available(directory: Path) -> int:
    """How many bytes vmctl may still write there."""
    usage = shutil.disk_usage(directory)
    return max(0, usage.free - min(KEPT, usage.total // KEPT_SHARE))


def require(directory: Path, size: int, purpose: str) -> None:
    """See that ``size`` more bytes fit, and that a reserve is left.

    Raises:
        NoSpace: they do not.
    """
    if size > available(directory):
        usage = shutil.disk_usage(directory)
        kept = min(KEPT, usage.total // KEPT_SHARE)
        raise NoSpace(
            f"there is not enough disk space {purpose}",
            details=f"{readable(size)} is needed, {readable(usage.free)} is free in {directory}, "
            f"and {readable(kept)} of that is kept free",
            hint="vmctl box du    # shows what takes up how much",
        )


class Room:
    """Watches that what is written, however much its source sends, leaves the reserve of the disk alone."""

    def __init__(self, directory: Path, purpose: str) -> None:
        self._directory = directory
        self._purpose = purpose
        self._left = 0

    def take(self, size: int) -> None:
        """Before ``size`` bytes are written.

        Raises:
            NoSpace: they would take the reserve.
        """
        self._left -= size
        if self._left < 0:
            require(self._directory, size, self._purpose)
            self._left = min(STEP, available(self._directory) - size)


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
            details=f"{error.strerror}; {readable(free)} is free in {directory}",
            hint="vmctl box du    # shows what takes up how much",
        ) from error
