"""The plain lock of vmctl processes, for providers and folders of boxes: the kernel's, so none outlives its holder.

``vmctl.store.locks`` is the core's own, which also tells who holds a lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmctl import wait

PATIENCE = 3600.0
"""Seconds; converting a large box, or copying it to a slow pool, is the longest that a lock is held for."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, which stays behind.

    Raises:
        TimedOut: another vmctl held it too long.
        Interrupted: the user asked to stop while it waited.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _awaited(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW):
        yield


@contextmanager
def held_directory(path: Path) -> Iterator[None]:
    """As ``held``, with a directory as the lock itself: no file appears in it, and whoever may read it may hold it."""
    with _awaited(path, os.O_RDONLY | os.O_DIRECTORY):
        yield


@contextmanager
def _awaited(path: Path, flags: int) -> Iterator[None]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        wait.until(lambda: take(descriptor), wait.Deadline.after(PATIENCE), f"the lock {path}", hint=f"lsof {path}")
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock file ``path`` now, this process with it; nobody holds one that is absent."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that several who ask at once do not take each other for its holder.
        return not take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def claim(path: Path) -> int:
    """Hold a directory by itself until the descriptor that is returned is closed, at the latest by the process's end.

    Raises:
        OSError: somebody else holds it (BlockingIOError), or it is no directory.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not take(descriptor):
        os.close(descriptor)
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
    return descriptor


def take(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock of an open file, where nobody has it; whether that was so."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
