"""Locks between vmctl processes: kernel-held (flock), so that they vanish with their holder."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from vmctl import flock, interrupt, json_text, redaction
from vmctl.errors import LockTimeout, VmctlError
from vmctl.events import Notice, Report, ignore
from vmctl.store import door, files

PAUSE = 0.1
ATTEMPTS = 20
PATIENCE = 0.3  # seconds of silent waiting: most locks are held for less


@contextlib.contextmanager
def hold(
    path: Path, what: str, *, timeout: float | None = None, machine: str = "", report: Report = ignore
) -> Iterator[None]:
    """Hold the lock at ``path`` for the duration of the block.

    Args:
        path: the lock file; it stays behind, empty of meaning, unless the block calls ``remove``.
        what: what is locked, for messages: "machine web".
        timeout: seconds to wait for another holder; None = for ever, 0 = not at all.
        machine: for the event that tells of the wait.
        report: told once, with the holder's name, when there is a wait.

    Raises:
        LockTimeout: another process kept the lock for longer than ``timeout``.
        Interrupted: the user asked to stop while waiting.
    """
    handle = _opened(path)
    try:
        started = time.monotonic()
        reported = False
        while not flock.take(handle) or not _is_at(path, handle):
            if not _is_at(path, handle):
                os.close(handle)
                handle = _opened(path)
                continue
            waited = time.monotonic() - started
            if timeout is not None and waited >= timeout:
                raise LockTimeout(
                    f"{what} is locked by {holder(path)}",
                    hint="wait for it to end, or allow more time with --lock-timeout",
                )
            if waited > PATIENCE and not reported:
                report(Notice(machine=machine, text=f"waiting for {what}, locked by {holder(path)}"))
                reported = True
            interrupt.sleep(PAUSE)
        _announce(path)
        yield
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a lock that this process holds, and its directory if it held no other; who waits for it makes it anew."""
    files.remove(path)
    files.remove(_holder_file(path))
    files.remove_empty(path.parent)


def _opened(path: Path) -> int:
    for _ in range(ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):  # `remove` took the directory away just now
            return door.open_file(path, os.O_RDWR | os.O_CREAT, make=True)
    return door.open_file(path, os.O_RDWR | os.O_CREAT, make=True)


def _is_at(path: Path, handle: int) -> bool:
    """Whether the open file is still the one at ``path``: a lock that was removed keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _holder_file(path: Path) -> Path:
    return path.with_name(path.name + ".holder")


def _announce(path: Path) -> None:
    command = redaction.command(sys.argv[1:])
    now = time.time()
    # For messages only: a full disk must not keep `destroy` from making room.
    with contextlib.suppress(OSError, door.ForeignFile):
        files.replace_content(_holder_file(path), json.dumps({"pid": os.getpid(), "command": command, "since": now}))


def holder(path: Path) -> str:
    """Who holds (or last held) a lock, for people."""
    try:
        known = json_text.loads(files.read(_holder_file(path)).decode())
        since = time.strftime("%H:%M:%S", time.localtime(known["since"]))
        return f"`{known['command']}` (process {known['pid']}, since {since})"
    except (OSError, ValueError, KeyError, TypeError, VmctlError):
        return "another vmctl"
