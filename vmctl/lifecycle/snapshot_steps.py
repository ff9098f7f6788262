"""The steps that keep a machine's state by name and go back to it, and what vmctl itself has to remember with each.

A snapshot takes back more than the disk: which provisioners have run, how folders were shared, and, where it holds
memory, the hardware. All that goes with it, as a note inside the hypervisor, so that both come and go together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from msgspec import Struct, field, to_builtins

from vmctl import interrupt, json_text, provision
from vmctl.driver import Forward, State
from vmctl.errors import VmctlError, WrongState
from vmctl.lifecycle import quiescing
from vmctl.lifecycle.machine_job import Job
from vmctl.powers import Snapshot, Snapshots
from vmctl.store.records import Record

FORMAT = 1
FLUSHING = 30.0
"""Seconds for the guest to write out what it has in memory."""


class SnapshotNote(Struct, frozen=True, kw_only=True):
    """What vmctl knew of a machine when a snapshot was made."""

    forwards: tuple[Forward, ...] = ()
    applied: Mapping[str, Any] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    provisioned: Mapping[str, Any] = field(default_factory=dict)
    settled: bool = True
    """Whether the first boot was over."""

    @classmethod
    def of(cls, job: Job) -> Self:
        """What it knows now."""
        record = job.record
        return cls(
            forwards=record.forwards,
            applied=record.applied,
            folders=record.folders,
            provisioned=provision.entries(job.machine.layout),
            settled=record.settled,
        )

    @classmethod
    def read(cls, snapshot: Snapshot) -> Self | None:
        """What a snapshot's note says; None = it is not one of vmctl's."""
        try:
            data = json_text.loads(snapshot.note)
            if data.pop("format") != FORMAT:
                return None
            data["forwards"] = tuple(Forward(**forward) for forward in data["forwards"])
            return cls(**data)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def note(self) -> str:
        """The note for a snapshot."""
        return json.dumps({"format": FORMAT, **to_builtins(self)})

    def put_back(self, record: Record, *, memory: bool) -> Record:
        """The record of the machine that has gone back; without memory it will be given the Vmfile's hardware."""
        gone_back = record.but(folders=self.folders, settled=self.settled, ready_run="", names="")
        return gone_back.but(forwards=self.forwards, applied=self.applied) if memory else gone_back


def driver_of(job: Job) -> Snapshots:
    """The machine's driver.

    Raises:
        WrongState: it cannot keep snapshots.
    """
    driver = job.driver
    if not isinstance(driver, Snapshots):
        raise WrongState(f"the provider {job.machine.provider} cannot keep snapshots", hint="vmctl halt")
    return driver


def find(job: Job) -> Snapshot | None:
    """The job's snapshot, as the hypervisor has it."""
    return next(
        (each for each in driver_of(job).snapshots(job.machine.domain, job.tag) if each.name == job.snapshot), None
    )


def flush(job: Job) -> bool:
    """Have the guest write out what it has in memory, in case the snapshot can hold nothing but the disk."""
    try:
        quiescing.connected(job).run(["sync"], deadline=FLUSHING)
    except VmctlError:
        interrupt.check()
        return False  # a guest without SSH can be kept all the same
    return True


def save_snapshot(job: Job) -> bool:
    """Keep the present state; the machine is as ready afterwards as it was before."""
    before, running, why_not = job.machine.is_ready, job.machine.state is State.RUNNING, ""
    if running and quiescing.live_folders(job):
        with quiescing.quiet(job) as why_not:
            kept = _save(job, ready=False)
    else:
        kept = _save(job, ready=before)
        if running and kept.memory:
            quiescing.wake_again(job, ready=before)  # its clock stood still
    if running and not kept.memory:
        why = f" ({why_not})" if why_not else ""
        job.warn(f"snapshot {job.snapshot!r} holds the disk alone, not the memory{why}: restoring it boots the machine")
    return True


def _save(job: Job, *, ready: bool) -> Snapshot:
    with interrupt.shielded():
        kept = driver_of(job).save_snapshot(
            job.machine.domain, job.tag, job.snapshot, replace=job.replace, note=SnapshotNote.of(job).note()
        )
        _stay_ready(job, before=ready)
    return kept


def restore_snapshot(job: Job) -> bool:
    """Go back to the snapshot.

    A vmctl that is killed in here must not leave provisioners counted as done that are not: only those count that were
    done both then and now, until it is certain which of the two it is.
    """
    snapshot = find(job)
    if snapshot is None:
        raise WrongState(f"machine {job.name} has no snapshot {job.snapshot!r}", hint=f"vmctl snapshot list {job.name}")
    kept, layout = SnapshotNote.read(snapshot), job.machine.layout
    then = kept.provisioned if kept else {}
    with interrupt.shielded():
        now = provision.entries(layout)
        provision.put_back(layout, {name: entry for name, entry in now.items() if then.get(name) == entry})
        driver_of(job).restore_snapshot(job.machine.domain, job.tag, job.snapshot)
        provision.put_back(layout, then)
        job.save(kept.put_back(job.record, memory=snapshot.memory) if kept else job.record.but(ready_run="", names=""))
    if kept is None:
        job.warn(f"vmctl did not make snapshot {job.snapshot!r}: it cannot tell what was provisioned then")
    return True


def delete_snapshot(job: Job) -> bool:
    """Forget the snapshot; the machine is as ready afterwards as it was before."""
    with interrupt.shielded():
        before = job.observe().is_ready
        driver_of(job).remove_snapshot(job.machine.domain, job.tag, job.snapshot)
        _stay_ready(job, before=before)
    return True


def _stay_ready(job: Job, *, before: bool) -> None:
    """A hypervisor may count what it did with a running machine as another run of it, which it is not for the guest."""
    observed = job.observe().observed
    if before and observed and observed.run and not job.machine.is_ready:
        job.save(job.record.but(ready_run=observed.run))
