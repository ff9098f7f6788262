"""Running a verb over several machines: in parallel where drivers allow, in the order of `depends_on`."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from vmctl import interrupt
from vmctl.errors import Interrupted, VmctlError, from_os
from vmctl.lifecycle import job as jobs
from vmctl.lifecycle.job import Job, Step

logger = logging.getLogger(__name__)

AT_ONCE = 8
POLL = 0.2  # seconds; also how often signals get their turn in the main thread


@dataclass
class Outcome:
    """What became of each machine."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, VmctlError] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Not attempted, because of that other machine."""

    def raise_failure(self) -> None:
        """Raise what failed, as one error; nothing failed: return."""
        if not self.failed:
            return
        interrupted = next((error for error in self.failed.values() if isinstance(error, Interrupted)), None)
        if interrupted:
            raise interrupted
        name, first = next(iter(self.failed.items()))
        if len(self.failed) == 1 and not self.skipped:
            raise named(first, name)
        raise FleetFailed(self)


class FleetFailed(VmctlError):
    """Several machines failed, or some were not attempted because others failed."""

    def __init__(self, outcome: Outcome) -> None:
        failures = [f"{name}: {error}" for name, error in outcome.failed.items()]
        failures += [f"{name}: not attempted, it depends on {other}" for name, other in outcome.skipped.items()]
        codes = {error.exit_code for error in outcome.failed.values()}
        super().__init__(
            f"{len(outcome.failed)} of {_total(outcome)} machines failed",
            details="\n".join(failures),
            hint="vmctl status",
        )
        self.exit_code = codes.pop() if len(codes) == 1 else 1
        self.outcome = outcome


def _total(outcome: Outcome) -> int:
    return len(outcome.done) + len(outcome.failed) + len(outcome.skipped)


def named(error: VmctlError, machine: str) -> VmctlError:
    """The error, with the machine's name in front where the text does not name it as a word yet."""
    if machine not in re.findall(r"[\w-]+", re.sub(r"\S*/\S*", "", error.brief)):
        error.brief = f"{machine}: {error.brief}"
    return error


def run(fleet: Sequence[Job], steps: Sequence[Step], *, reverse: bool = False) -> Outcome:
    """Run the steps for each machine; a machine waits for those it depends on (``reverse``: for its dependents).

    One machine's failure lets independent ones finish; its dependents are skipped. Interrupted: what runs ends at its
    next step or wait, nothing new begins.
    """
    outcome = Outcome()
    waiting = {job.name: job for job in fleet}
    needs = _needs(fleet, reverse=reverse)
    parallel = all(job.features.parallel for job in fleet) if len(fleet) > 1 else False
    with ThreadPoolExecutor(AT_ONCE if parallel else 1, thread_name_prefix="vmctl") as pool:
        running: dict[Future[None], str] = {}
        while waiting or running:
            for name in [name for name in waiting if _may_begin(name, needs, outcome)]:
                job = waiting.pop(name)
                running[pool.submit(_run_one, job, steps)] = name
            _skip(waiting, needs, outcome)
            ended, _ = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
            for future in ended:
                _note(outcome, running.pop(future), future)
    return outcome


def _run_one(job: Job, steps: Sequence[Step]) -> None:
    try:
        jobs.run(job, steps)
    finally:
        job.close()


def _needs(fleet: Sequence[Job], *, reverse: bool) -> Mapping[str, set[str]]:
    names = {job.name for job in fleet}
    needs: dict[str, set[str]] = {name: set() for name in names}
    for job in fleet:
        for other in set(job.machine.spec.depends_on if job.machine.spec else ()) & names:
            first, second = (job.name, other) if reverse else (other, job.name)
            needs[second].add(first)
    return needs


def _may_begin(name: str, needs: Mapping[str, set[str]], outcome: Outcome) -> bool:
    return not interrupt.requested() and needs[name] <= set(outcome.done)


def _skip(waiting: dict[str, Job], needs: Mapping[str, set[str]], outcome: Outcome) -> None:
    lost = {*outcome.failed, *outcome.skipped}
    for name in list(waiting):
        if interrupt.requested():
            outcome.failed[name] = interrupt.error()
            del waiting[name]
        elif cause := needs[name] & lost:
            outcome.skipped[name] = min(cause)
            del waiting[name]


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
