"""`vmctl snapshot` from end to end: what is asked of several machines is checked for all before any is changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from vmctl.driver import State
from vmctl.errors import UsageError, WrongState
from vmctl.lifecycle import fleet, snapshot_steps, steps, verbs
from vmctl.lifecycle.machine_job import Job, Step, off
from vmctl.powers import Snapshot
from vmctl.workspace import Machine, Workspace

NAME = re.compile(r"[^\s\-/\x00-\x1f\x7f][^/\x00-\x1f\x7f]{0,79}")
PUSHED = re.compile(r"push-([1-9]\d*)")


@dataclass
class SnapshotResult:
    """What was done, machine by machine."""

    machines: list[Machine] = field(default_factory=list)
    snapshots: dict[str, str] = field(default_factory=dict)
    """The snapshot that it was done with, by machine."""


def check_name(name: str) -> None:
    """Refuse what cannot name a snapshot.

    Raises:
        UsageError: it is empty, too long, begins with a hyphen, or holds a slash or a control character.
    """
    if not NAME.fullmatch(name) or name != name.strip():
        raise UsageError(
            f"{name!r} cannot name a snapshot: 1 to 80 characters, no '/', no control characters, no '-' in front",
            hint="vmctl snapshot save before-upgrade",
        )


def listing(workspace: Workspace, names: Sequence[str]) -> dict[str, tuple[Snapshot, ...]]:
    """The snapshots of each machine that exists, parents before their children."""
    jobs = [Job(workspace, machine) for machine in workspace.survey(names) if machine.observed]
    return {job.name: snapshot_steps.driver_of(job).snapshots(job.machine.domain, job.tag) for job in jobs}


def save(
    workspace: Workspace, names: Sequence[str], snapshot: str, *, every: bool, replace: bool = False
) -> SnapshotResult:
    """Keep the present state of machines under a name; ``every``: of those that exist.

    Raises:
        UsageError: the name cannot be used.
        WrongState: a machine is neither running nor off, or has a snapshot of that name; nothing was changed.
    """
    check_name(snapshot)
    with workspace.locked(names):
        jobs = _jobs(workspace, names, every=every)
        for job in jobs:
            job.snapshot, job.replace = snapshot, replace
            _check_savable(job)
        return _run(jobs, verbs.SAVE)


def push(workspace: Workspace, names: Sequence[str], *, every: bool) -> SnapshotResult:
    """As ``save``, under the next free name of the form push-N."""
    with workspace.locked(names):
        jobs = _jobs(workspace, names, every=every)
        used = [number for job in jobs for number in _pushed(job)]
        for job in jobs:
            job.snapshot = f"push-{max(used, default=0) + 1}"
            _check_savable(job)
        return _run(jobs, verbs.SAVE)


def restore(workspace: Workspace, names: Sequence[str], snapshot: str, *, every: bool, start: bool) -> SnapshotResult:
    """Go back to a snapshot, and (``start``) go on from it until SSH answers and folders are there.

    Raises:
        WrongState: a machine has no such snapshot; nothing was changed.
        PortTaken: host ports that it had then belong to somebody else now; nothing was changed.
    """
    with workspace.locked(names):
        jobs = _jobs(workspace, names, every=every)
        for job in jobs:
            job.snapshot = snapshot
        return _go_back(jobs, verbs.RESTORE, start=start)


def pop(workspace: Workspace, names: Sequence[str], *, every: bool, start: bool, delete: bool) -> SnapshotResult:
    """Go back to the last state that was pushed, and forget it.

    Raises:
        WrongState: nothing was pushed.
    """
    with workspace.locked(names):
        jobs = _jobs(workspace, names, every=every)
        pushed = {job.name: _pushed(job) for job in jobs}
        jobs = [job for job in jobs if pushed[job.name]]
        if not jobs:
            raise WrongState("nothing was pushed", hint="vmctl snapshot list")
        for job in jobs:
            job.snapshot = f"push-{max(pushed[job.name])}"
        return _go_back(jobs, verbs.RESTORE, start=start, after=verbs.DELETE if delete else ())


def delete(workspace: Workspace, names: Sequence[str], snapshot: str, *, every: bool) -> SnapshotResult:
    """Forget a snapshot, where a machine has it.

    Raises:
        WrongState: none has it.
    """
    with workspace.locked(names):
        jobs = _jobs(workspace, names, every=every)
        for job in jobs:
            job.snapshot = snapshot
        having = [job for job in jobs if snapshot_steps.find(job)]
        if not having:
            raise WrongState(f"there is no snapshot {snapshot!r}", hint="vmctl snapshot list")
        return _run(having, verbs.DELETE)


def _jobs(workspace: Workspace, names: Sequence[str], *, every: bool) -> list[Job]:
    """The machines that exist; ``every``: those that do not are passed over."""
    machines = workspace.survey(names)
    absent = [machine.name for machine in machines if not machine.observed]
    present = [Job(workspace, machine) for machine in machines if machine.observed]
    if absent and not (every and present):
        raise WrongState(f"not created: {', '.join(absent)}", hint=f"vmctl up {' '.join(absent)}")
    return present


def _check_savable(job: Job) -> None:
    if job.machine.state is not State.RUNNING and not off(job):
        raise WrongState(
            f"machine {job.name} is {job.machine.state_text}; a snapshot needs it running or stopped",
            hint=f"vmctl resume {job.name}",
        )
    if not job.replace and snapshot_steps.find(job):
        raise WrongState(
            f"machine {job.name} has a snapshot {job.snapshot!r} already",
            hint=f"vmctl snapshot list {job.name}    # then save under another name; --force replaces that one",
        )


def _go_back(jobs: Sequence[Job], back: Sequence[Step], *, start: bool, after: Sequence[Step] = ()) -> SnapshotResult:
    found = {job.name: snapshot_steps.find(job) for job in jobs}
    lacking = [job for job in jobs if found[job.name] is None]
    if lacking:
        raise WrongState(
            f"no snapshot {lacking[0].snapshot!r}: {', '.join(job.name for job in lacking)}",
            hint="vmctl snapshot list    # name the machines that have it",
        )
    for job in jobs:
        snapshot = found[job.name]
        if start and snapshot is not None:
            _check_startable(job, snapshot)
    return _run(jobs, (*back, *(verbs.UP if start else ()), *after))


def _check_startable(job: Job, snapshot: Snapshot) -> None:
    """Memory goes on with the ports of then; a machine that boots gets what the Vmfile wants now."""
    kept = snapshot_steps.SnapshotNote.read(snapshot)
    if not snapshot.memory:
        steps.check(job, restarting=True)
    elif kept:
        owner = job.workspace.owner(job.name)
        job.workspace.ports.take_back(owner, kept.forwards, running=job.machine.state is State.RUNNING)


def _pushed(job: Job) -> list[int]:
    names = (each.name for each in snapshot_steps.driver_of(job).snapshots(job.machine.domain, job.tag))
    return [int(found[1]) for name in names if (found := PUSHED.fullmatch(name))]


def _run(jobs: Sequence[Job], wanted: Sequence[Step]) -> SnapshotResult:
    fleet.run(jobs, wanted).raise_failure()
    return SnapshotResult([job.observe() for job in jobs], {job.name: job.snapshot for job in jobs})
