"""What one call of ``provision.run`` needs on this host, and takes away with it: private directories and processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmctl import flock, interrupt, user_environment
from vmctl.layout import ProjectLayout
from vmctl.store import files, locks
from vmctl.wait import Deadline, TimedOut, until

LONGEST_SOCKET = 104  # bytes in a UNIX socket's path, the smallest limit among systems
SOCKET_NAME = 10 + 1 + 17  # Ansible's name for it, and what ssh appends while it makes it
PREFIX = "vmctl-"
ROOM = LONGEST_SOCKET - SOCKET_NAME - len(f"/{PREFIX}12345678/")
# Ansible's workers and ssh's connection masters leave the process group and the session of what started them. What
# they all keep is their environment: this variable in it names the run.
VARIABLE = "VMCTL_RUN"
GRACE = 1.0  # seconds for each of SIGTERM and SIGKILL
PROC = Path("/proc")


@dataclass(frozen=True)
class RunDirectory:
    """A private place for the runs of one call."""

    run: str
    """In the environment of all processes (``VARIABLE``)."""
    root: Path
    """For ansible-runner's data directories; holds secrets while the runs last (0700)."""
    sockets: Path
    """For ssh's control sockets: connections are kept from one provisioner to the next."""

    def directory(self, name: str) -> Path:
        """A new private directory for one run."""
        return files.make_directory(self.root / name)

    def forget_connections(self) -> None:
        """Have ssh connect anew; the old connections end by themselves, or with the run directory."""
        for entry in self.sockets.iterdir():
            entry.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(layout: ProjectLayout) -> Iterator[RunDirectory]:
    """A run directory; whatever happens, nothing of it is left: no process, no socket, no file with a secret in it.

    What a killed vmctl has left there is removed first.
    """
    run = secrets.token_hex(8)
    root = layout.runner / run
    with locks.hold(layout.runner / "lock", "ansible-runner's directory"):
        _prune(layout.runner)
        files.make_directory(root)
        handle = flock.claim(root)
    sockets = Path(tempfile.mkdtemp(prefix=PREFIX, dir=user_environment.temporary_directory(ROOM)))
    try:
        yield RunDirectory(run, root, sockets)
    finally:
        end_processes(run)
        shutil.rmtree(sockets, ignore_errors=True)
        with contextlib.suppress(OSError):
            files.remove_tree(root)
        os.close(handle)


def _prune(parent: Path) -> None:
    """Remove directories (and end processes) of runs whose vmctl was killed."""
    for name in files.names(parent):
        try:
            handle = flock.claim(parent / name)
        except OSError:
            continue  # its vmctl is at work, or it is not a directory
        end_processes(name)
        with contextlib.suppress(OSError):
            files.remove_tree(parent / name)
        os.close(handle)


def processes(run: str) -> list[int]:
    """Process ids of what still runs of a run, however far it has detached itself.

    Linux only; elsewhere none are found, and ssh's masters end by themselves after a minute.
    """
    mark = f"{VARIABLE}={run}".encode()
    return [int(entry.name) for entry in PROC.glob("[0-9]*") if _is_marked(entry, mark)]


def _is_marked(entry: Path, mark: bytes) -> bool:
    try:
        return mark in (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # it has ended, or is somebody else's


def end_processes(run: str) -> None:
    """End what still runs of a run: SIGTERM, a short grace, SIGKILL. Works after an interruption, too."""
    with interrupt.shielded():
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in processes(run):
                _send(process, number)
            try:
                until(lambda: not processes(run), Deadline.after(GRACE), "the end of Ansible's processes")
            except TimedOut:
                continue
            return


def _send(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except (ProcessLookupError, PermissionError):
        return
