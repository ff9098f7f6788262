"""The steps that bring a machine up; ``down`` has the others.

Each looks before it acts, so running it again after any failure finishes the work.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from vmctl import __version__, boxes, folders, key_pairs, provision, seed, ssh
from vmctl.driver import Address, Forward, State
from vmctl.errors import UsageError, VmctlError
from vmctl.lifecycle import consoles, definitions, etc_hosts, first_login, plan, ready
from vmctl.lifecycle.conditions import absent, exists, off
from vmctl.lifecycle.machine_job import Job
from vmctl.login import Login
from vmctl.process import CommandFailed
from vmctl.spec import DEFAULT_USER
from vmctl.store import carry, files, port_leases
from vmctl.store.records import BoxUsed, Record
from vmctl.wait import Deadline

if TYPE_CHECKING:
    from vmctl.boxes import Box

GROW = "vmctl-grow.service"
SLOW_CLOCK = 2  # seconds that a restored guest's clock may be off before it is set
SET_CLOCK = 'off=$(($(date +%s) - $1)); [ "${off#-}" -le "$2" ] || date --utc --set "@$1"'


def lease_ports(job: Job) -> tuple[Forward, ...]:
    """Have the host ports that the machine needs; what it has already, it keeps."""
    if not job.features.user_network:
        return ()
    owner = job.workspace.owner(job.name)
    holds = not (absent(job) or off(job) or job.machine.state is State.SAVED)
    return job.workspace.ports.lease(owner, job.spec.ports, ssh=job.spec.ssh_port, running=holds)


def check(job: Job, *, restarting: bool = False) -> None:
    """Refuse what cannot work, before anything is changed: ports first, then the provider's own rules.

    A machine that is not off keeps the ports that its hypervisor has bound (or will bind again, when it is restored)
    until it is restarted, whatever the Vmfile says by now.
    """
    if restarting or absent(job) or off(job):
        forwards = lease_ports(job)
    else:
        forwards = job.record.forwards
        if job.machine.state is State.SAVED:
            port_leases.require_free(job.name, forwards)
    record = job.machine.record or _preview(job)
    wanted = definitions.build(
        job.spec,
        record.but(forwards=forwards),
        job.features,
        job.machine.layout,
        root=str(job.workspace.root),
    )
    job.driver.check(wanted)


def _preview(job: Job) -> Record:
    """What the record will be, as far as it is known before the box is there."""
    return Record(
        name=job.machine.domain,
        project=job.workspace.ensure_id(),
        machine=job.name,
        provider=job.machine.provider,
        box=BoxUsed(name=str(job.spec.box), version="", digest="", user=""),
        version=__version__,
        user=job.spec.user or DEFAULT_USER,
        uid=folders.login_uid(job.spec),
    )


def fetch_box(job: Job) -> bool:
    """Have the machine's box in the store.

    Raises:
        UsageError: its provider cannot make machines from it.
    """
    formats = job.features.formats
    job.box = boxes.ensure(job.spec.box, job.workspace.home, formats=formats, report=job.report)
    if not job.box.has_form(formats):
        raise UsageError(
            f"{job.machine.provider} cannot make machines from the box {job.box}",
            details=f"It takes {', '.join(formats)}; the box has {', '.join(sorted(_forms(job.box)))}.",
            hint="vmctl box build debian-12    # this one has both: a disk, and a root file system for containers",
        )
    if job.box.further and not job.features.several_disks:
        raise UsageError(
            f"the box {job.box} has {len(job.box.images)} disks, and {job.machine.provider} machines have one",
            hint="use the provider libvirt, or another box",
        )
    return True


def _forms(box: Box) -> set[str]:
    return {box.format, *(one.format for one in box.forms)}


def make_keys(job: Job) -> bool:
    """Have the machine's own user and host keys."""
    files.make_directory(job.machine.layout.root)
    made = not files.exists(job.machine.layout.key)
    key_pairs.ensure(job.machine.layout.key)
    key_pairs.ensure(job.machine.layout.host_key)
    first_login.prepare(job)
    return made


def record(job: Job) -> bool:
    """Write down what is about to be made."""
    spec, box = job.spec, _box_used(job)
    user = spec.user or box.user or DEFAULT_USER
    old = job.machine.record
    job.save(
        Record(
            name=job.machine.domain,
            project=job.workspace.ensure_id(),
            machine=spec.name,
            provider=job.machine.provider,
            where=job.driver.where,
            box=box,
            version=__version__,
            user=user,
            uid=old.uid if old and exists(job) else folders.login_uid(spec),
            forwards=lease_ports(job),
            applied=old.applied if old and exists(job) else {},
            folders=old.folders if old and exists(job) else {},
            names=old.names if old and exists(job) else "",
            **_first_boot(job),
        )
    )
    _check_box(job)
    return True


def _check_box(job: Job) -> None:
    """See that the box is still there, now that the record keeps `box remove` away from it.

    Raises:
        VmctlError: it was removed meanwhile.
    """
    from vmctl.boxes.box_store import BoxStore

    if job.box is not None and not BoxStore(job.workspace.home, job.report).has(job.box):
        raise VmctlError(f"the box {job.box} was removed while {job.name} was being made", hint=f"vmctl up {job.name}")


def _first_boot(job: Job) -> dict[str, Any]:
    """Whether the first boot has settled, and which try this is.

    A power cut before that can leave the guest with empty host keys or none of our user; as a new instance, it takes
    them again.
    """
    old = job.machine.record
    if old is None or not exists(job):
        return {}
    return {"settled": old.settled, "first_boots": old.first_boots + (0 if old.settled else 1)}


def _box_used(job: Job) -> BoxUsed:
    if job.box is None:
        return job.record.box
    box: Box = job.box
    return BoxUsed(
        name=box.name, version=box.version, digest=box.digest, user=box.user, firmware=box.firmware,
        cloud_init=box.cloud_init, seeding=box.seeding, virtual_size=box.virtual_size,
        further=tuple(disk.digest for disk in box.further), mac=box.provenance.get("vagrant", {}).get("mac", ""),
    )  # fmt: skip


def define(job: Job) -> bool:
    """Make every choice that the hypervisor and the seed need; nothing outside changes."""
    layout = job.machine.layout
    root = str(job.workspace.root)
    job.definition = definitions.build(job.spec, job.record, job.features, layout, root=root)
    return False


def write_seed(job: Job) -> bool:
    """Write the NoCloud seed, unless it says the same already."""
    assert job.definition is not None  # noqa: S101  `define` ran
    layout = job.machine.layout
    return seed.write(
        layout.seed,
        definition=job.definition,
        features=job.features,
        user=job.record.user,
        public_key=key_pairs.ensure(layout.key),
        host_key=layout.host_key,
        uid=job.record.uid,
        first_boots=job.record.first_boots,
    )


def create(job: Job) -> bool:
    """Make the machine in the hypervisor."""
    assert job.definition is not None  # noqa: S101  `define` ran
    assert job.box is not None  # noqa: S101  `fetch_box` ran
    provision.forget(job.machine.layout)  # its disk is new, whatever became of the one before
    job.driver.create(job.definition, job.box.disk(job.features.formats))
    job.created = True
    job.save(job.record.but(applied=plan.hardware(job.spec)))
    return True


def update(job: Job) -> bool:
    """Give the stopped machine the hardware that the Vmfile wants now."""
    assert job.definition is not None  # noqa: S101  `define` ran
    job.driver.update(job.definition)
    carry.forget_media(job.workspace.layout.directory, job.name)  # it has those in its own place now
    kept = {field: job.record.applied[field] for field in plan.RECREATING if field in job.record.applied}
    job.save(job.record.but(applied={**plan.hardware(job.spec), **kept}))
    return True


def start(job: Job) -> bool:
    """Start the machine, or restore it."""
    job.restored = job.machine.state in (State.SAVED, State.PAUSED)
    job.driver.start(job.machine.domain, job.tag)
    job.look()
    return True


def await_ssh(job: Job) -> bool:
    """Wait until SSH answers and lets us in; say why when it does not."""
    layout = job.machine.layout
    if job.record.box.cloud_init and not files.exists(layout.first_key):
        ssh.write_known_hosts(layout.known_hosts, job.name, key_pairs.ensure(layout.host_key))
    job.connection = ssh.await_ssh(
        machine=job.name,
        address=lambda: job.driver.address(job.machine.domain, job.tag),
        login=lambda address: login(job, address),
        alive=lambda: _is_alive(job),
        deadline=Deadline.after(job.spec.boot_timeout),
        console=layout.console,
        report=job.report,
    )
    if files.exists(layout.first_key):
        first_login.replace_key(job)
    ssh.write_config(job.connection.login)
    return True


def _is_alive(job: Job) -> bool:
    consoles.fetch(job.driver, job.machine.domain, job.tag, job.machine.layout.console)
    return job.look().state in (State.RUNNING, State.STARTING)


def login(job: Job, address: Address) -> Login:
    """How to get into the job's machine at an address."""
    layout = job.machine.layout
    return Login(
        machine=job.name,
        address=address,
        user=job.record.user,
        key=layout.key,
        known_hosts=layout.known_hosts,
        config=layout.ssh_config,
        first_key=layout.first_key if files.exists(layout.first_key) else None,
        first_password=layout.first_password if files.exists(layout.first_password) else None,
    )


def set_clock(job: Job) -> bool:
    """Set the restored guest's clock, where it is off: it stood still while the machine was saved."""
    assert job.connection is not None  # noqa: S101  `await_ssh` ran
    argv = ["sh", "-c", SET_CLOCK, "sh", f"{time.time():.0f}", str(SLOW_CLOCK)]
    job.connection.run(argv, sudo=True, check=False)
    return True


def settle(job: Job) -> bool:
    """Have the new guest's first writes on its disk: a power cut would leave it with empty SSH host keys."""
    assert job.connection is not None  # noqa: S101  `await_ssh` ran
    if not job.record.box.seeds_itself:  # which has them there before its SSH server starts
        job.connection.run(["sync"])
    job.save(job.record.but(settled=True))
    return True


def await_growth(job: Job) -> bool:
    """Wait until the root file system has the disk that the Vmfile gives: a box of ours grows it while SSH answers."""
    assert job.connection is not None  # noqa: S101  `await_ssh` ran
    job.connection.run(["systemctl", "start", GROW], sudo=True, check=False)
    return False


def share_folders(job: Job) -> bool:
    """Have the project's folders in the guest."""
    assert job.connection is not None  # noqa: S101  `await_ssh` ran
    assert job.definition is not None  # noqa: S101  `define` ran
    used = folders.attach(
        job.connection, job.spec, job.definition.shares, login=job.connection.login, report=job.report
    )
    job.save(job.record.but(folders=dict(used)))
    return bool(used)


def write_names(job: Job) -> bool:
    """Tell the guest the names of the other machines; where it cannot be told, that is no reason to fail."""
    assert job.connection is not None  # noqa: S101  `await_ssh` ran
    try:
        etc_hosts.write(job.connection, job.names)
    except CommandFailed as error:
        job.warn(f"its names of the other machines could not be written: {error.brief}")
        return False
    job.save(job.record.but(names=etc_hosts.digest(job.names)))
    return True


def check_ready(job: Job) -> bool:
    """Wait until the Vmfile's `ready:` checks hold."""
    assert job.connection is not None  # noqa: S101  `await_ssh` ran
    for check in job.spec.ready:
        ready.await_check(job.connection, job.name, check)
    return True


def mark_ready(job: Job) -> bool:
    """Write down that this start of the machine is done."""
    observed = job.look().observed
    job.save(job.record.but(ready_run=observed.run if observed else ""))
    return True
