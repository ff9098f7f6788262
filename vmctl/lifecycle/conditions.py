"""What steps and verbs ask about their machine, as the hypervisor last told it."""

from __future__ import annotations

from vmctl.driver import State
from vmctl.lifecycle import plan
from vmctl.lifecycle.machine_job import Job


def absent(job: Job) -> bool:
    """The machine does not exist."""
    return job.machine.observed is None


def exists(job: Job) -> bool:
    """The machine exists, in whatever state."""
    return job.machine.observed is not None


def off(job: Job) -> bool:
    """The machine exists, and nothing of it is in memory or saved."""
    return job.machine.state in (State.STOPPED, State.CRASHED)


def outdated(job: Job) -> bool:
    """The machine is off, and was defined by an earlier run."""
    return off(job) and not job.created


def not_running(job: Job) -> bool:
    """The machine is not running (or does not exist)."""
    return job.machine.state is not State.RUNNING


def adapts(job: Job) -> bool:
    """The machine runs, and its hypervisor can give it what changed in the Vmfile."""
    return plan.plan(job.machine).action is plan.Action.ADAPT


def not_ready(job: Job) -> bool:
    """The machine was started (or restored), but folders and checks are still to be done."""
    return job.restored or not job.machine.is_ready
