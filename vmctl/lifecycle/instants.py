"""Instant machines: a ready machine's memory, kept for the same machine to go on from after it was destroyed.

Memory holds all that the machine is, keys as well. So what vmctl itself knows of it is kept beside it (0700), and it
is used for nobody but the same machine of the same project. It is made only of a machine that this very run has made
and provisioned, as layers are, and its key has all that the last layer's has, and the hardware.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import cast

from msgspec import Struct, structs

from vmctl import interrupt, key_pairs, provision
from vmctl.driver import Disk
from vmctl.errors import VmctlError
from vmctl.layout import MachineLayout
from vmctl.lifecycle import layering, plan, quiescing, steps
from vmctl.lifecycle.machine_job import Job, Token
from vmctl.powers import Memories
from vmctl.provision import inputs
from vmctl.spec import Provisioner
from vmctl.store import files, layer_ledger, records
from vmctl.store.layer_ledger import LayerNote
from vmctl.store.records import BoxUsed

FORMAT = 2
COPIED = "the folder {} is a copy (rsync), which memory would bring back as it was"


class MemoryKey(Struct, frozen=True, kw_only=True):
    """The memory that a machine could go on from, or why it has none."""

    key: str = ""
    reason: str = ""
    """Why there can be none; "" = there can."""


def wanted(job: Job, box: BoxUsed, disk: Disk) -> MemoryKey:
    """Which memory would be true of a machine that is made from this box."""
    driver = job.driver
    if not isinstance(driver, Memories):
        return MemoryKey(reason=f"the provider {job.machine.provider} keeps no memory")
    if copied := layering.copied_folder(job.spec, job.features):
        return MemoryKey(reason=COPIED.format(copied))
    kept = structs.replace(job.spec, provision=_lasting(job))
    chain = layering.chain_of(job.workspace.project, kept, box, job.features, job.machine.provider)
    if chain.reason:
        since = f" ({chain.ended_by})" if chain.ended_by else ""
        return MemoryKey(reason=f"{chain.reason}{since}")
    steps.define(job)
    facts = [FORMAT, chain.last, driver.memory_key(job.defined, disk), _repeated(job)]
    return MemoryKey(key=hashlib.sha256(json.dumps(facts).encode()).hexdigest())


def _lasting(job: Job) -> tuple[Provisioner, ...]:
    """The provisioners whose work is in the memory; those that run always run again."""
    return tuple(item for item in job.spec.provision if item.run != "always")


def _repeated(job: Job) -> list[str]:
    """What always ran before the memory was kept is in it, and so in what ran after that, though it runs again."""
    return [
        inputs.digest(item, exact=True) if item.run == "always" else ""
        for item in job.spec.provision
        if item.run != "never"
    ]


def find(job: Job) -> bool:
    """Look for memory that is there and true, with what has to be known beside it."""
    driver = job.driver
    if not isinstance(driver, Memories):
        return False
    before, home = job.machine, job.workspace.home
    try:
        present = {layer.key for layer in driver.layers() if layer.memory}
        if not present:
            return False
        job.machine = structs.replace(before, record=steps.preview(job))
        key = wanted(job, steps.box_used(job.ground_box), job.ground_box.disk(job.features.formats)).key
    except (VmctlError, OSError) as error:
        interrupt.check()
        job.warn(f"its kept memory could not be looked for: {getattr(error, 'brief', error)}")
        return False
    finally:
        job.machine, job.definition = before, None
    job.memory = key if key in present and files.exists(home.seal(key)) else ""
    if job.instant and not job.memory and _own(job, present):
        job.notice("its kept memory is of another state of the project")
    return False


def is_kept(job: Job) -> bool:
    """Whether there is memory of this machine, whatever state of it that is of."""
    driver = job.driver
    try:
        return isinstance(driver, Memories) and bool(_own(job, {one.key for one in driver.layers() if one.memory}))
    except VmctlError:
        interrupt.check()
        return False


def _own(job: Job, present: Collection[str]) -> list[str]:
    """Keys of the memory of this machine, whatever state that is of."""
    mine, notes = (str(job.workspace.root), job.name), layer_ledger.read(job.workspace.home)
    return [key for key in present if key in notes and (notes[key].project, notes[key].machine) == mine]


def thaw(job: Job) -> bool:
    """Have the machine go on from its kept memory; where that cannot be, it is left to be made anew."""
    kept = job.workspace.home.memory(job.memory)
    threading.Thread(target=import_module, args=("paramiko",), daemon=True).start()  # meanwhile: it takes a moment
    try:
        _go_on(job, kept)
    except (VmctlError, OSError) as error:
        interrupt.check()
        job.warn(f"its kept memory is of no use, so it is made anew: {getattr(error, 'brief', error)}")
        _forget(job)
        cast("Memories", job.driver).remove_layer(job.memory)
        layer_ledger.forget(job.workspace.home, [job.memory])
        return False
    layer_ledger.touch(job.workspace.home, [job.memory])
    job.restored = job.thawed = True
    return True


def _go_on(job: Job, kept: MachineLayout) -> None:
    layout, record = job.machine.layout, records.load(kept)
    if record is None:
        raise VmctlError("what was known of the machine is gone")
    if files.read(job.workspace.home.seal(job.memory)).decode() != _seal(job, job.memory):
        raise VmctlError("it, or a disk that goes with it, was changed since it was kept")
    files.make_directory(layout.root)
    for mine, its in _keys(layout, kept):
        files.write(mine, files.read(its))
    job.save(record.but(forwards=steps.lease_ports(job), applied=plan.hardware(job.spec), quiesced=True, ready_run=""))
    steps.define(job)
    steps.write_seed(job)
    digests = [(item, inputs.digest(item)) for item in _lasting(job)]
    provision.forget(layout)
    for item, digest in digests:
        provision.mark(layout, item, digest)
    token = secrets.token_hex(quiescing.TOKEN)
    if cast("Memories", job.driver).thaw(job.defined, job.memory, lambda: quiescing.word(token)):
        job.token = Token(token)
    job.observe()


def _seal(job: Job, key: str) -> str:
    layers = cast("Memories", job.driver).layers()
    return next((layer.seal for layer in layers if layer.key == key), "")


def _forget(job: Job) -> None:
    """Take back what ``_go_on`` wrote, so that the machine gets keys of its own."""
    layout = job.machine.layout
    keys = [mine for mine, _ in _keys(layout, layout)]
    for path in (layout.record, layout.seed, layout.provisioned, *keys):
        files.remove(path)
    job.definition = None
    job.observe()


def _keys(mine: MachineLayout, its: MachineLayout) -> tuple[tuple[Path, Path], ...]:
    """The keys of two places, side by side; with public ones, since what would make those takes a moment to load."""
    private = ((mine.key, its.key), (mine.host_key, its.host_key))
    public = tuple((key_pairs.public_path(one), key_pairs.public_path(other)) for one, other in private)
    return private + public


def keep(job: Job) -> bool:
    """Keep the memory of a machine that is ready, just made and provisioned; it goes on. Failing is no failure."""
    box, driver = job.record.box, job.driver
    try:
        one = wanted(job, box, job.ground_box.disk(job.features.formats))
        there = isinstance(driver, Memories) and _is_there(job, driver, one.key)
    except (VmctlError, OSError) as error:
        one, there = MemoryKey(reason=str(error)), False
    if not one.reason and (copied := [path for path, kind in job.record.folders.items() if kind == "rsync"]):
        one = MemoryKey(reason=COPIED.format(copied[0]))
    if one.reason:
        job.notice(f"its memory is not kept: {one.reason}")
    if one.reason or there:
        return False
    with quiescing.quiet(job, waits=True) as in_the_way:
        why_not = in_the_way or _keep(job, one.key)
    if why_not:
        job.notice(f"its memory is not kept: {why_not}")
    return not why_not


def _is_there(job: Job, driver: Memories, key: str) -> bool:
    """Whether that memory is kept already; one whose machine's keys were lost, or its seal, is of no use, and goes."""
    if key not in {layer.key for layer in driver.layers()}:
        return False
    return files.exists(job.workspace.home.seal(key)) or not driver.remove_layer(key)


def _keep(job: Job, key: str) -> str:
    """Keep it; what went wrong ("" = nothing)."""
    driver, home = cast("Memories", job.driver), job.workspace.home
    kept = home.memory(key)
    try:
        with interrupt.shielded():
            files.make_directory(kept.root)
            records.save(kept, job.record)  # first: it tells whose this is, should we be killed
            for its, mine in _keys(kept, job.machine.layout):
                files.write(its, files.read(mine))
            driver.keep_memory(job.machine.domain, job.tag, key)
            files.write(home.seal(key), _seal(job, key))
            layer_ledger.add(home, key, _note(job))
    except (VmctlError, OSError) as error:
        files.remove_tree(kept.root)
        interrupt.check()
        return str(error)
    try:
        _drop_older(job, key)
    except VmctlError as error:
        job.warn(f"its older memory could not be removed: {error.brief}", "vmctl cache prune")
    return ""


def drop_unfinished(job: Job) -> None:
    """Remove what a vmctl left that was killed while it kept the memory of this machine, which is gone now."""
    driver, home = job.driver, job.workspace.home
    if not isinstance(driver, Memories):
        return
    for key in files.names(home.memories):
        kept = home.memory(key)
        try:
            record = None if files.exists(home.seal(key)) else records.load(kept)
            if record and (record.project, record.machine) == (job.tag.project, job.name):
                driver.remove_layer(key)
                files.remove_tree(kept.root)
        except VmctlError as error:
            interrupt.check()
            job.warn(f"memory that was being kept could not be removed: {error.brief}", "vmctl cache prune")


def _note(job: Job) -> LayerNote:
    return LayerNote(
        provider=job.machine.provider,
        where=job.driver.where,
        project=str(job.workspace.root),
        machine=job.name,
        provisioners=tuple(item.name for item in _lasting(job)),
        seconds=time.monotonic() - job.began,
        used=time.time(),
    )


def _drop_older(job: Job, key: str) -> None:
    """A machine has one memory: they are large, and the older one was of another state."""
    driver, home = cast("Memories", job.driver), job.workspace.home
    older = _own(job, {layer.key for layer in driver.layers() if layer.memory} - {key})
    layer_ledger.forget(home, [each for each in older if driver.remove_layer(each)])
