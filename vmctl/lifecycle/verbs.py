"""The verbs as flat tuples of steps: read one from top to bottom to know what a command does."""

from __future__ import annotations

from vmctl.driver import State
from vmctl.lifecycle import down, etc_hosts, first_login, guest_steps, instants, quiescing, snapshot_steps, steps
from vmctl.lifecycle.machine_job import Job, Step, absent, adapts, exists, not_ready, not_running, off, outdated


def _cloud_init(job: Job) -> bool:
    return job.record.box.cloud_init


UP = (
    Step(steps.fetch_box, when=absent),
    Step(instants.find, when=lambda job: absent(job) and job.uses_memory),
    Step(instants.thaw, "going on from its kept memory", when=lambda job: absent(job) and bool(job.memory)),
    Step(steps.make_keys, when=absent),
    Step(steps.record, when=lambda job: absent(job) or off(job)),
    Step(steps.define, when=not_ready),
    Step(steps.write_seed, when=lambda job: (absent(job) or off(job)) and _cloud_init(job)),
    Step(steps.find_layer, when=lambda job: absent(job) and job.layers and bool(job.spec.provision)),
    Step(steps.create, "creating from {job.ground}", when=absent),
    Step(steps.update, when=outdated),
    Step(steps.start, "starting", when=not_running),
    Step(guest_steps.await_ssh, "waiting for SSH", when=not_ready),
    Step(guest_steps.settle, when=lambda job: not job.record.settled),
    Step(first_login.introduce, when=lambda job: not_ready(job) and not _cloud_init(job)),
    Step(
        guest_steps.await_growth,
        when=lambda job: not_ready(job) and not job.thawed and bool(job.spec.disk) and job.record.box.seeds_itself,
    ),
    Step(quiescing.wake, when=lambda job: job.restored or job.record.quiesced),
    Step(
        guest_steps.share_folders,
        "sharing folders",
        when=lambda job: not_ready(job) and _folders(job) and not (job.thawed and job.woken),
    ),
    Step(guest_steps.write_names, when=lambda job: not_ready(job) and job.record.names != etc_hosts.digest(job.names)),
    Step(
        guest_steps.check_ready,
        "waiting for its ready checks",
        when=lambda job: not_ready(job) and bool(job.spec.ready),
    ),
    Step(guest_steps.mark_ready, when=not_ready),
    Step(steps.change_ports, "changing its ports", when=adapts),
)


def _folders(job: Job) -> bool:
    return bool(job.spec.folders) or bool(job.record.folders)


HALT = (Step(down.halt, "shutting down", when=lambda job: exists(job) and not off(job)),)
POWER_OFF = (Step(down.power_off, "cutting the power", when=lambda job: exists(job) and not off(job)),)
SUSPEND = (Step(down.suspend, "saving its memory", when=lambda job: job.machine.state is State.RUNNING),)
RESUME = UP
RELOAD = (*HALT, *UP)
SAVE = (
    Step(snapshot_steps.flush, when=lambda job: job.machine.state is State.RUNNING),
    Step(snapshot_steps.save_snapshot, "saving snapshot {job.snapshot}"),
)
RESTORE = (Step(snapshot_steps.restore_snapshot, "going back to snapshot {job.snapshot}"),)
DELETE = (Step(snapshot_steps.delete_snapshot, "deleting snapshot {job.snapshot}"),)
DESTROY = (
    Step(down.power_off, when=lambda job: exists(job) and not off(job)),
    Step(down.destroy, "destroying"),
    Step(down.forget, journalled=False),
)
