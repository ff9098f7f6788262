"""Running a verb over several machines: in parallel where host and drivers allow, in the order of `depends_on`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from vmctl import interrupt
from vmctl.errors import VmctlError, from_os
from vmctl.lifecycle import machine_job
from vmctl.lifecycle.capacity import Limits
from vmctl.lifecycle.machine_job import Job, Step
from vmctl.lifecycle.outcome import FleetFailed, Outcome, named

__all__ = ["FleetFailed", "Limits", "Outcome", "named", "run"]

logger = logging.getLogger(__name__)

POLL = 0.2  # seconds; also how often signals get their turn in the main thread
STARTED = "start"
"""The step after which a machine counts as started."""
UNLIMITED = Limits()


def run(fleet: Sequence[Job], steps: Sequence[Step], *, reverse: bool = False, limits: Limits = UNLIMITED) -> Outcome:
    """Run the steps for each machine; a machine waits for those it depends on (``reverse``: for its dependents).

    One machine's failure lets independent ones finish; its dependents are skipped. Interrupted: what runs ends at its
    next step or wait, nothing new begins.
    """
    if not fleet:
        return Outcome()
    return _Run(fleet, steps, limits, reverse=reverse).to_the_end()


@dataclass
class _Need:
    """Another machine of the run that a machine waits for."""

    other: Job
    only_started: bool

    def met(self, outcome: Outcome) -> bool:
        return self.other.name in outcome.done or (self.only_started and STARTED in self.other.passed)


@dataclass
class _Run:
    fleet: Sequence[Job]
    steps: Sequence[Step]
    limits: Limits
    reverse: bool
    outcome: Outcome = field(default_factory=Outcome)
    running: dict[Future[None], Job] = field(default_factory=dict)
    _needs: dict[str, list[_Need]] = field(default_factory=dict)

    def to_the_end(self) -> Outcome:
        waiting = {job.name: job for job in self.fleet}
        self._needs = _needs(self.fleet, reverse=self.reverse)
        with ThreadPoolExecutor(self._workers(), thread_name_prefix="vmctl") as pool:
            while waiting or self.running:
                for job in [job for job in waiting.values() if self._may_begin(job)]:
                    if self._has_room(job):
                        del waiting[job.name]
                        self.running[pool.submit(_run_one, job, self.steps)] = job
                self._skip(waiting)
                ended, _ = wait(self.running, timeout=POLL, return_when=FIRST_COMPLETED)
                for future in ended:
                    _note(self.outcome, self.running.pop(future).name, future)
        return self.outcome

    def _workers(self) -> int:
        parallel = len(self.fleet) > 1 and all(job.features.parallel for job in self.fleet)
        if not parallel:
            return 1
        return self.limits.sleepers if self.reverse else self.limits.workers

    def _has_room(self, job: Job) -> bool:
        if len(self.running) >= self._workers():
            return False
        others = [other.machine.spec for other in self.running.values()]
        return self.reverse or self.limits.has_room(job.machine.spec, others)

    def _may_begin(self, job: Job) -> bool:
        if interrupt.requested() or self._gives_up():
            return False
        return all(need.met(self.outcome) for need in self._needs[job.name])

    def _gives_up(self) -> bool:
        return self.limits.fail_fast and bool(self.outcome.failed)

    def _skip(self, waiting: dict[str, Job]) -> None:
        """Give up the machines that cannot begin any more."""
        for name in list(waiting):
            if interrupt.requested():
                self.outcome.failed[name] = interrupt.error()
                del waiting[name]
            elif why := self._why_not(name):
                self.outcome.skipped[name] = why
                del waiting[name]

    def _why_not(self, name: str) -> str:
        lost = [
            need.other.name
            for need in self._needs[name]
            if need.other.name in self.outcome.lost and not need.met(self.outcome)
        ]
        if lost:
            return f"{min(lost)} depends on it" if self.reverse else f"it depends on {min(lost)}"
        return f"{next(iter(self.outcome.failed))} failed before it" if self._gives_up() else ""


def _run_one(job: Job, steps: Sequence[Step]) -> None:
    try:
        machine_job.run(job, steps)
    finally:
        job.close()


def _needs(fleet: Sequence[Job], *, reverse: bool) -> dict[str, list[_Need]]:
    by_name = {job.name: job for job in fleet}
    needs: dict[str, list[_Need]] = {name: [] for name in by_name}
    for job in fleet:
        for one in job.machine.spec.depends_on if job.machine.spec else ():
            other = by_name.get(one.machine)
            if other is None:
                continue
            if reverse:
                needs[other.name].append(_Need(job, only_started=False))
            else:
                needs[job.name].append(_Need(other, only_started=one.until == "started"))
    return needs


def _note(outcome: Outcome, name: str, future: Future[None]) -> None:
    error = future.exception()
    if error is None:
        outcome.done.append(name)
    elif isinstance(error, VmctlError):
        outcome.failed[name] = error
    elif isinstance(error, OSError):
        logger.debug("machine %s", name, exc_info=error)
        outcome.failed[name] = from_os(error)
    else:
        raise error
