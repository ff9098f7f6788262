"""``Vmfile.lock``: which images exactly a Vmfile's boxes mean, per architecture; `vmctl box lock` and `up --locked`.

What it has fetched is found by its digests only: a lock gives no box a name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from msgspec import structs

from vmctl.boxes import box_names
from vmctl.boxes.box import RECIPE, Box
from vmctl.boxes.box_store import BoxStore, is_locked
from vmctl.boxes.oci.reference import Reference, is_oci
from vmctl.errors import UsageError, VmctlError
from vmctl.events import Report, ignore
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef, Project
from vmctl.store import files
from vmctl.store.records import BoxUsed
from vmctl.vmfile import trust

SUFFIX = ".lock"
SCHEMA = 2
"""2: all disks and settings of a box; what 1 does not tell may be anything."""
MODE = 0o644
HINT = "vmctl box lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Locked:
    """One box: its images, and what it says of its machines."""

    name: str
    version: str
    digest: str
    """Of the disk to boot from."""
    source: str
    user: str
    firmware: str
    cloud_init: bool
    further: tuple[str, ...] | None = None
    """Digests of its other disks; None: an older vmctl wrote this, who did not say."""
    settings: str = ""
    """As ``BoxInfo.settings``; "" as above."""

    @classmethod
    def of(cls, box: Box) -> Self:
        """A box of the store, as the lock remembers it; what the user said of it when adding it counts too."""
        known = {one.name: getattr(box, one.name) for one in dataclasses.fields(cls)}
        return cls(**known | {"further": tuple(disk.digest for disk in box.further), "source": _source(box)})

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Self:
        """What the file says.

        Raises:
            TypeError: it says something else.
        """
        locked = cls(**entry)
        if not isinstance(locked.further, list | None):
            raise TypeError("a list is expected")
        further = None if locked.further is None else tuple(locked.further)
        texts = (locked.name, locked.version, locked.digest, locked.source, locked.user, locked.firmware)
        if not all(isinstance(text, str) for text in (*texts, locked.settings, *(further or ()))):
            raise TypeError("a text is expected")
        return dataclasses.replace(locked, further=further)


Lock = Mapping[str, Mapping[str, Locked]]
"""By box as the Vmfile writes it, then by architecture."""


def _source(box: Box) -> str:
    """Where the very images can be had: a registry's by digest, for its tags move."""
    if not is_oci(box.source):
        return box.source
    from vmctl.boxes.oci import pull

    return str(Reference.parse(box.source).pinned(pull.manifest_of(box)))


def path_for(vmfile: Path) -> Path:
    """Where the lock of a Vmfile lies: beside it."""
    return vmfile.with_name(vmfile.name + SUFFIX)


def read(path: Path) -> Lock:
    """The lock.

    Raises:
        UsageError: there is none, it is damaged, or a newer vmctl wrote it.
    """
    trust.require(path)
    data = files.read_json(path)
    if data is None:
        raise UsageError(f"there is no {path}", hint=HINT)
    try:
        if data["schema"] > SCHEMA:
            raise UsageError(f"{path} was written by a newer vmctl", hint="pip install --upgrade vmctl")
        return {
            box: {arch: Locked.read(entry) for arch, entry in entries.items()} for box, entries in data["boxes"].items()
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path} is damaged", details=str(error), hint=HINT) from error


def write(path: Path, boxes: Mapping[str, Box]) -> bool:
    """Lock these boxes (by how the Vmfile writes them); entries of other architectures are kept. Whether it changed."""
    old = read(path) if path.exists() else {}
    new: dict[str, dict[str, Any]] = {}
    for ref, box in sorted(boxes.items()):
        entries = {**old.get(ref, {}), box.arch: Locked.of(box)}
        new[ref] = {arch: _plain(entry) for arch, entry in entries.items()}
    document = {"schema": SCHEMA, "boxes": new}
    if path.exists() and files.read_json(path) == document:
        return False
    files.write_json(path, document, mode=MODE)
    return True


def pin(project: Project, lock: Lock) -> Project:
    """The project with every box meaning the very image that the lock names.

    Raises:
        UsageError: a box is not in it (for this host's architecture).
    """
    machines = tuple(structs.replace(spec, box=pinned(spec.box, lock)) for spec in project.machines)
    return structs.replace(project, machines=machines)


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
    lock = read(path_for(project.file))
    for ref in dict.fromkeys(refs):
        if BoxStore(home).locked(ref) is None:
            _fetch(ref, _entry(lock, ref), home, report)


def _plain(entry: Locked) -> dict[str, Any]:
    """For the file; an entry of another architecture may be an older vmctl's, and stays as it is."""
    known = dataclasses.asdict(entry)
    if entry.further is None:
        return {name: value for name, value in known.items() if name not in ("further", "settings")}
    return known | {"further": list(entry.further)}


def _entry(lock: Lock, ref: BoxRef) -> Locked:
    entry = lock.get(str(ref), {}).get(box_names.host_architecture())
    if entry is None:
        raise UsageError(f"the box {ref} is not in the lock for {box_names.host_architecture()}", hint=HINT)
    return entry


def _fetch(ref: BoxRef, entry: Locked, home: HomeLayout, report: Report) -> None:
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
        access=Access.from_environment(),
    )
    box, _ = obtain(order, home, report=report)
    if not is_locked(ref, box):
        raise VmctlError(
            f"the box {ref} is not what the lock says",
            details="\n".join([entry.source, *_differences(entry, Locked.of(box))]),
            hint=f"{HINT}   # if the change is wanted",
        )


def _differences(locked: Locked, got: Locked) -> list[str]:
    """What the lock says otherwise, for people."""
    facts = ("digest", "further", "user", "firmware", "cloud_init")
    pairs = [(name, getattr(locked, name), getattr(got, name)) for name in facts]
    rows = [f"{name}: locked {old}, got {new}" for name, old, new in pairs if old not in (None, new)]
    return rows or ["the defaults of its machines (memory, cpus…) are others"]
