"""Where the virtiofsd that vmctl starts in session mode listen, and whether they live: little, for `vmctl status`.

Each has its files under one name in a directory of the user's alone: the socket, from just before QEMU starts until
it connects; a lock; a log. virtiofsd itself holds the lock, for it inherits the open file: so it is the kernel that
says whether it lives, and no process that has the number of one that is gone can be taken for it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from msgspec import structs

from vmctl.driver import Observed, State
from vmctl.flock import is_held

LOCK, LOG = ".lock", ".log"
LOST = "a virtiofsd has ended, so its live folders hang; they come back when it is restarted"


def place(home: Path) -> Path:
    """Where the sockets are."""
    return home / "libvirt" / "live"


def prefix(machine: str) -> str:
    """What the names of a machine's sockets begin with."""
    return _short(machine)


def socket_path(home: Path, machine: str, tag: str) -> Path:
    """Where a share of a machine is served; the same each time."""
    return place(home) / f"{prefix(machine)}-{_short(tag)}"


def beside(path: Path, suffix: str) -> Path:
    """A socket's lock or log."""
    return path.with_name(path.name + suffix)


def are_lost(directory: Path, machine: str) -> bool:
    """Whether a virtiofsd of a machine has ended while the machine goes on: it was killed, or crashed."""
    return directory.is_dir() and not all(map(is_held, directory.glob(f"{prefix(machine)}-*{LOCK}")))


def told_of(observed: Observed, directory: Path, machine: str) -> Observed:
    """What was observed of a machine, and whether it has lost its folders: QEMU cannot get them back while it runs.

    Of one that is paused, the problem is why the hypervisor has stopped it; one that a user has stopped has none.
    """
    lost = observed.run and observed.state is not State.PAUSED and are_lost(directory, machine)
    return structs.replace(observed, problem=LOST) if lost else observed


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
