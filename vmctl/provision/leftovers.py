"""Ending every process that a run has started, however far it has detached itself.

Ansible's workers and ssh's connection masters leave the process group and the session of what started them. What
they all keep is their environment: a variable in it names the run.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from vmctl import interrupt
from vmctl.wait import Deadline, TimedOut, until

VARIABLE = "VMCTL_RUN"
GRACE = 1.0  # seconds for each of SIGTERM and SIGKILL
PROC = Path("/proc")


def running(run: str) -> list[int]:
    """Process ids of what still runs of a run.

    Linux only; elsewhere none are found, and ssh's masters end by themselves after a minute.
    """
    mark = f"{VARIABLE}={run}".encode()
    return [int(entry.name) for entry in PROC.glob("[0-9]*") if _has(entry, mark)]


def _has(entry: Path, mark: bytes) -> bool:
    try:
        return mark in (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # it has ended, or is somebody else's


def end(run: str) -> None:
    """End what still runs of a run: SIGTERM, a short grace, SIGKILL. Works after an interruption, too."""
    with interrupt.shielded():
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in running(run):
                _send(process, number)
            try:
                until(lambda: not running(run), Deadline.after(GRACE), "the end of Ansible's processes")
            except TimedOut:
                continue
            return


def _send(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except (ProcessLookupError, PermissionError):
        return
