"""The steps that make a machine and start it; ``guest_steps`` go on inside the guest, ``down`` has the others.

Each looks before it acts, so running it again after any failure finishes the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import structs

from vmctl import __version__, boxes, folders, interrupt, key_pairs, machine_names, provision, seed
from vmctl.box_facts import DEFAULT_USER
from vmctl.driver import Definition, Disk, Forward, State
from vmctl.errors import UsageError, VmctlError
from vmctl.lifecycle import definitions, first_login, plan
from vmctl.lifecycle.machine_job import Job, StepMissing, absent, adapts, exists, off
from vmctl.powers import LiveForwards
from vmctl.provision import inputs
from vmctl.seed import GuestIdentity
from vmctl.store import carry, files, host_ports, hypervisors, layer_ledger
from vmctl.store.records import BoxUsed, Record

if TYPE_CHECKING:
    from vmctl.boxes import Box

UNKNOWN_NAMES = "of the layer"
"""What a guest holds of the names of other machines that began with a layer: those of another time."""


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
    until it is restarted, whatever the Vmfile says by now; unless its hypervisor can change them.
    """
    if restarting or absent(job) or off(job) or adapts(job):
        forwards = lease_ports(job)
    else:
        forwards = job.record.forwards
        if job.machine.state is State.SAVED:
            host_ports.require_free(job.name, forwards)
    record = job.machine.record or preview(job)
    wanted = definitions.build(
        job.spec,
        record.but(forwards=forwards),
        job.features,
        job.machine.layout,
        root=str(job.workspace.root),
    )
    job.driver.check(wanted)


def preview(job: Job) -> Record:
    """What the record will be, as far as it is known before the box is there."""
    project = job.workspace.own_id
    return Record(
        name=job.machine.domain or machine_names.hypervisor_name(job.workspace.root, job.name, project),
        project=project,
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
    hypervisors.remember(job.workspace.home, job.record.provider, job.record.where)
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
    return job.record.box if job.box is None else box_used(job.box)


def box_used(box: Box) -> BoxUsed:
    """What the record keeps of a box."""
    return BoxUsed(
        **box.facts, seeding=box.seeding, virtual_size=box.virtual_size,
        mac=box.provenance.get("vagrant", {}).get("mac", ""),
    )  # fmt: skip


def define(job: Job) -> bool:
    """Make every choice that the hypervisor and the seed need; nothing outside changes."""
    layout = job.machine.layout
    root = str(job.workspace.root)
    job.definition = definitions.build(job.spec, job.record, job.features, layout, root=root)
    return False


def write_seed(job: Job) -> bool:
    """Write the NoCloud seed, unless it says the same already."""
    layout = job.machine.layout
    return seed.write(
        layout.seed,
        GuestIdentity(
            definition=job.defined,
            features=job.features,
            user=job.record.user,
            public_key=key_pairs.ensure(layout.key),
            host_key=layout.host_key,
            uid=job.record.uid,
            first_boots=job.record.first_boots,
        ),
    )


def find_layer(job: Job) -> bool:
    """Look for the longest layer that is true, and is not there for nothing: used just now, it stays for longer."""
    from vmctl.lifecycle import layering

    job.layering = layering.possible(job.workspace, job.machine, job.record.box)
    if job.layering and job.layering.depth:
        layer_ledger.touch(job.workspace.home, job.layering.chain.keys[: job.layering.depth])
    return False


def create(job: Job) -> bool:
    """Make the machine in the hypervisor, from its layer where it has one."""
    provision.forget(job.machine.layout)  # its disk is new, whatever became of the one before
    disk = job.ground_box.disk(job.features.formats)
    names = _create_on_layer(job, job.defined, disk)
    if not job.machine.observed:
        job.driver.create(job.defined, disk)
    job.created = True
    job.save(job.record.but(applied=plan.hardware(job.spec), names=names))
    return True


def _create_on_layer(job: Job, definition: Definition, disk: Disk) -> str:
    """Make the machine from its layer, if any; what its guest holds of the names of other machines then."""
    layering = job.layering
    if layering is None or not layering.depth:
        return ""
    from vmctl.lifecycle.layering import has_neighbours

    digests = [(item, inputs.digest(item)) for item in layering.done]
    try:
        job.driver.create(definition, structs.replace(disk, layer=layering.key))
    except VmctlError as error:
        interrupt.check()
        if job.observe().observed:
            raise
        job.warn(f"{error.brief}; it is made from its box")
        layering.depth = 0
        return ""
    for item, digest in digests:
        provision.mark(job.machine.layout, item, digest)
    job.observe()
    return UNKNOWN_NAMES if has_neighbours(job.workspace.project) else ""


def update(job: Job) -> bool:
    """Give the stopped machine the hardware that the Vmfile wants now."""
    job.driver.update(job.defined)
    carry.forget_media(job.workspace.layout.directory, job.name)  # it has those in its own place now
    kept = {field: job.record.applied[field] for field in plan.RECREATING if field in job.record.applied}
    job.save(job.record.but(applied={**plan.hardware(job.spec), **kept}))
    return True


def change_ports(job: Job) -> bool:
    """Give the running machine the forwards that the Vmfile wants now; SSH's stays as it is."""
    driver, old = job.driver, job.record.forwards
    if not isinstance(driver, LiveForwards):
        raise StepMissing("a plan of what can be changed while the machine runs")
    wanted = [one for one in lease_ports(job) if one.name != "ssh"]
    forwards = (*(one for one in old if one.name == "ssh"), *wanted)
    driver.set_forwards(job.machine.domain, job.tag, forwards)
    applied = {**job.record.applied, "ports": plan.hardware(job.spec)["ports"]}
    job.save(job.record.but(forwards=forwards, applied=applied))
    return True


def start(job: Job) -> bool:
    """Start the machine, or restore it."""
    job.restored = job.machine.state in (State.SAVED, State.PAUSED)
    job.driver.start(job.machine.domain, job.tag)
    job.started = not job.restored
    job.observe()
    return True
