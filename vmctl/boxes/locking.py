"""``Vmfile.lock``: which images exactly a Vmfile's boxes mean, per architecture; `vmctl box lock` and `up --locked`.

What it has fetched is found by its digests only: a lock gives no box a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from msgspec import ValidationError, convert, structs

from vmctl.box_facts import BoxFacts
from vmctl.boxes import box_names
from vmctl.boxes.address import is_local
from vmctl.boxes.box import RECIPE, Box, manifest_of
from vmctl.boxes.box_store import BoxStore, is_locked
from vmctl.boxes.finding import find
from vmctl.boxes.oci.reference import Reference, is_oci
from vmctl.errors import UsageError, VmctlError
from vmctl.events import Report, ignore
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef, MachineSpec, Project
from vmctl.store import files
from vmctl.store.records import BoxUsed
from vmctl.vmfile import trust

SUFFIX = ".lock"
SCHEMA = 3
"""2: all disks and settings of a box; what 1 does not tell may be anything. 3: ``instead``, written where one is."""
WITHOUT_ALIASES = 2
LOCKED = "lock:"
"""Begins the stamp of a box that a lock names; the lock's path follows."""
MODE = 0o644
LONGEST = 4 * 1024**2
HINT = "vmctl box lock"
NOTHING: Mapping[str, BoxRef] = MappingProxyType({})


class Locked(BoxFacts, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One box: its images, and what it says of its machines."""

    source: str
    further: tuple[str, ...] | None = None
    """Digests of its other disks; None: an older vmctl wrote this, who did not say."""
    settings: str = ""
    """As ``BoxInfo.settings``; "" as above."""
    instead: str = ""
    """How a Vmfile would write this box, where an alias puts it in place of the one that is written; "" = none does."""

    @classmethod
    def of(cls, box: Box, *, instead: str = "") -> Self:
        """A box of the store, as the lock remembers it; what the user said of it when adding it counts too."""
        return cls(**box.facts, settings=box.settings, source=_source(box), instead=instead)


Lock = Mapping[str, Mapping[str, Locked]]
"""By box as the Vmfile writes it, then by architecture."""


def _source(box: Box) -> str:
    """Where the very images can be had: a registry's by digest, for its tags move."""
    if not is_oci(box.source):
        return box.source
    return str(Reference.parse(box.source).pinned(manifest_of(box)))


def path_for(vmfile: Path) -> Path:
    """Where the lock of a Vmfile lies: beside it."""
    return vmfile.with_name(vmfile.name + SUFFIX)


def read(path: Path) -> Lock:
    """The lock.

    Raises:
        UsageError: there is none, it is damaged, or a newer vmctl wrote it.
    """
    trust.require(path)
    data = files.read_json(path, most=LONGEST)
    if data is None:
        raise UsageError(f"there is no {path}", hint=HINT)
    try:
        if data["schema"] > SCHEMA:
            raise UsageError(f"{path} was written by a newer vmctl", hint="pip install --upgrade vmctl")
        entries = data["boxes"].items()
        return {box: {arch: convert(entry, Locked) for arch, entry in known.items()} for box, known in entries}
    except (TypeError, KeyError, AttributeError, ValidationError) as error:
        raise UsageError(f"{path} is damaged", details=str(error), hint=HINT) from error


def digests(path: Path) -> set[str]:
    """The images that a lock names, for whichever architecture; none where there is none that vmctl can read.

    Whoever wrote it, all that it can do is keep boxes.
    """
    try:
        data = files.read_json(path, most=LONGEST)
        return {str(entry["digest"]) for entries in (data or {})["boxes"].values() for entry in entries.values()}
    except (VmctlError, OSError, TypeError, KeyError, AttributeError):
        return set()


def write(path: Path, boxes: Mapping[str, Box], instead: Mapping[str, BoxRef] = NOTHING) -> bool:
    """Lock boxes; entries of other architectures are kept. Whether it changed.

    Args:
        path: of the lock.
        boxes: by how the Vmfile writes them.
        instead: those that aliases put in place of what is written, by the same.
    """
    old = read(path) if path.exists() else {}
    new: dict[str, dict[str, Any]] = {}
    for ref, box in sorted(boxes.items()):
        other = str(instead[ref]) if ref in instead else ""
        entries = {**old.get(ref, {}), box.arch: Locked.of(box, instead=other)}
        new[ref] = {arch: _plain(entry) for arch, entry in entries.items()}
    aliased = any("instead" in entry for entries in new.values() for entry in entries.values())
    document = {"schema": SCHEMA if aliased else WITHOUT_ALIASES, "boxes": new}
    if path.exists() and files.read_json(path, most=LONGEST) == document:
        return False
    files.write_json(path, document, mode=MODE)
    return True


def pin(project: Project, lock: Lock) -> Project:
    """The project with every box meaning the very image that the lock names.

    Raises:
        UsageError: a box is not in it (for this host's architecture).
    """
    machines = (_as_locked(spec, lock) for spec in project.machines)
    pinned_ones = tuple(structs.replace(spec, box=pinned(spec.box, lock)) for spec in machines)
    return structs.replace(project, machines=pinned_ones)


def _as_locked(spec: MachineSpec, lock: Lock) -> MachineSpec:
    """The machine, with the alias that the lock remembers, where the Vmfile has none of its own."""
    written = str(spec.box)
    entry = lock.get(written, {}).get(box_names.host_architecture())
    if spec.box_alias or entry is None or not entry.instead:
        return spec
    address, constraint = entry.instead, ""
    if not is_local(address) and "://" not in address:
        address, _, constraint = address.partition("@")
    box = BoxRef(address=address, constraint=constraint, key=spec.box.key)
    return structs.replace(spec, box=box, box_alias=written, box_alias_by="Vmfile.lock")


def pinned(ref: BoxRef, lock: Lock) -> BoxRef:
    """The box, meaning the very image that the lock names.

    Raises:
        UsageError: it is not in the lock (for this host's architecture).
    """
    entry = _entry(lock, ref)
    return structs.replace(ref, digest=entry.digest, further=entry.further, settings=entry.settings)


def has_images(used: BoxUsed, ref: BoxRef) -> bool:
    """Whether a machine's disks lie on the very images that a lock names; what either does not tell may be anything."""
    return used.digest == ref.digest and (None in (used.further, ref.further) or used.further == ref.further)


def provide(refs: Iterable[BoxRef], project: Project, home: HomeLayout, *, report: Report = ignore) -> None:
    """Have the locked images of these boxes in the store; those that are there need no network.

    Raises:
        VmctlError: an image cannot be had, or its source has another one by now.
    """
    path = path_for(project.file)
    lock = read(path)
    for ref in dict.fromkeys(refs):
        box = find(ref, home) or _fetch(ref, _entry(lock, ref), home, report)
        remember(box, path, home)


def remember(box: Box, path: Path, home: HomeLayout) -> None:
    """Let `box prune` know where a lock names the box, whether or not its project has machines."""
    BoxStore(home).annotate(box, stamps={f"{LOCKED}{path.resolve()}": box.digest})


def _plain(entry: Locked) -> dict[str, Any]:
    """For the file; an entry of another architecture may be an older vmctl's, and stays as it is."""
    known = structs.asdict(entry)
    if not entry.instead:
        del known["instead"]
    if entry.further is None:
        return {name: value for name, value in known.items() if name not in ("further", "settings")}
    return known | {"further": list(entry.further)}


def _entry(lock: Lock, ref: BoxRef) -> Locked:
    arch, written = box_names.host_architecture(), str(ref)
    here = {box: entries[arch] for box, entries in lock.items() if arch in entries}
    found = [entry for entry in here.values() if entry.instead == written]
    if written in here:
        # What is written so means itself first. Where an alias took its place, that is what it means last.
        found.insert(len(found) if here[written].instead else 0, here[written])
    if not found:
        raise UsageError(f"the box {ref} is not in the lock for {arch}", hint=HINT)
    return found[0]


def _fetch(ref: BoxRef, entry: Locked, home: HomeLayout, report: Report) -> Box:
    from vmctl.boxes.obtaining import obtain
    from vmctl.boxes.request import Order
    from vmctl.boxes.web import Access

    if entry.source.startswith(RECIPE):
        raise VmctlError(
            f"the locked build of {ref} ({entry.version}) is not in the store",
            details="A build takes the packages of its day, so it cannot be made again.",
            hint=f"copy it here: vmctl box repackage {entry.name}@{entry.version}; or lock a new one: {HINT}",
        )
    order = Order(
        address=entry.source,
        name=entry.name,
        named=False,
        version="" if is_oci(entry.source) else entry.version,
        arch=box_names.host_architecture(),
        user=entry.user,
        firmware=entry.firmware,
        cloud_init=entry.cloud_init,
        key=Path(ref.key) if ref.key else None,
        access=Access.from_environment(),
    )
    box, _ = obtain(order, home, report=report)
    if not is_locked(ref, box):
        raise VmctlError(
            f"the box {ref} is not what the lock says",
            details="\n".join([entry.source, *_differences(entry, Locked.of(box))]),
            hint=f"{HINT}   # if the change is wanted",
        )
    return box


def _differences(locked: Locked, got: Locked) -> list[str]:
    """What the lock says otherwise, for people."""
    facts = ("digest", "further", "user", "firmware", "cloud_init")
    pairs = [(name, getattr(locked, name), getattr(got, name)) for name in facts]
    rows = [f"{name}: locked {old}, got {new}" for name, old, new in pairs if old not in (None, new)]
    return rows or ["the defaults of its machines (memory, cpus…) are different"]
