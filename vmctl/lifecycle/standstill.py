"""Machines that their hypervisor has stopped, because this host could not write to their disks.

Whatever waits for such a guest waits for ever: neither its network nor its programs are gone. So somebody looks
meanwhile, tells, and has it go on as soon as it can.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from vmctl.driver import State
from vmctl.errors import VmctlError, WrongState
from vmctl.events import Warned
from vmctl.workspace import Machine, Workspace

logger = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between looks, at least."""
REST = 20.0
"""Times as long as a look took until the next: VBoxManage takes a processor for half a second."""


def stands_still(machine: Machine) -> bool:
    """Whether the machine was stopped in the middle of work, and not by anybody's wish."""
    return machine.state is State.PAUSED and bool(machine.problem)


def refuse(machine: Machine) -> None:
    """See that a machine that is waited for can get anywhere.

    Raises:
        WrongState: it stands still.
    """
    if stands_still(machine):
        raise WrongState(f"{machine.name}: {machine.problem}", hint=f"vmctl up {machine.name}    # goes on")


@contextmanager
def watched(workspace: Workspace, names: Sequence[str]) -> Iterator[None]:
    """Look after machines for the length of the block."""
    end = threading.Event()
    threading.Thread(target=_watch, args=(workspace, names, end), daemon=True).start()
    try:
        yield
    finally:
        end.set()


def _watch(workspace: Workspace, names: Sequence[str], end: threading.Event) -> None:
    told: set[str] = set()
    pause = EVERY
    while not end.wait(pause):
        began = time.monotonic()
        try:
            found = [machine for machine in workspace.survey(names) if stands_still(machine)]
        except VmctlError as error:  # who works with the machines tells of it
            logger.debug("machines are not looked after: %s", error.brief)
            found = []
        pause = max(EVERY, REST * (time.monotonic() - began))
        for machine in found:
            if machine.name not in told:
                told.add(machine.name)
                workspace.report(Warned(machine=machine.name, text=machine.problem, hint="df -h"))
            _go_on(workspace, machine, end)


def _go_on(workspace: Workspace, machine: Machine, end: threading.Event) -> None:
    """Have the guest try again what it could not write; it stands still again where that fails."""
    if machine.observed and not end.is_set():
        with suppress(VmctlError):
            workspace.driver(machine.provider).start(machine.domain, machine.observed.tag)
