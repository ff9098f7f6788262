"""What `vmctl box rescue` takes: boxes by name, all of the store, a project's, or those that Vagrant keeps here."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from vmctl.boxes import box_names, finding, locking, obtaining, vagrant_box
from vmctl.boxes.box import Box
from vmctl.boxes.box_store import BoxStore, is_locked
from vmctl.boxes.catalogue import PREFERRED
from vmctl.boxes.request import Order
from vmctl.boxes.rescuing import Get, Rescued
from vmctl.boxes.versions import Version
from vmctl.boxes.web import Access
from vmctl.errors import UsageError, VmctlError
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef, MachineSpec, Project
from vmctl.user_environment import expanded

VARIABLE = "VAGRANT_HOME"
WORDS = {"-VAGRANTSLASH-": "/", "-VAGRANTCOLON-": ":"}
BY_PEOPLE = ("", "box_aliases")
"""``MachineSpec.box_alias_by`` where vmctl's own table has no part in it."""


def named(name: str, home: HomeLayout, access: Access, *, report: Report = ignore) -> list[tuple[str, Get]]:
    """The boxes of a name that are in the store, oldest first; else what `box add` gets by it."""
    there = [box for box in BoxStore(home, report).boxes(name) if box.named]
    if there:
        return [(str(box), functools.partial(_as_it_is, box)) for box in reversed(there)]
    order = Order(address=name, access=access)
    return [(name, lambda: obtaining.obtain(order, home, report=report))]


def stored(home: HomeLayout, *, report: Report = ignore) -> list[tuple[str, Get]]:
    """All boxes of the store that have names."""
    names = BoxStore(home, report).names()
    return [one for name in names for one in named(name, home, Access(), report=report)]


def _as_it_is(box: Box) -> tuple[Box, bool]:
    return box, False


def of_project(project: Project, home: HomeLayout, *, report: Report = ignore) -> list[tuple[str, Get]]:
    """The boxes that a project's machines are made from, fetched or built where they are absent.

    What an alias puts in a box's place is what the project uses. vmctl's own table stands for boxes that are gone; one
    that still can be had is not, so the user is told that it is left behind.
    """
    found = {(_written(spec), spec.box): functools.partial(_used, spec.box, home, report) for spec in project.machines}
    from_table = {spec.box_alias: spec for spec in project.machines if spec.box_alias_by not in BY_PEOPLE}
    for written, spec in from_table.items():
        text = f"{written}: {spec.box} takes its place ({spec.box_alias_by})"
        text += ", so --project leaves the box of that name behind"
        report(Warned(text=text, hint=f"vmctl box rescue {written.partition('@')[0]}"))
    return [*((what, get) for (what, _), get in found.items()), *_locked(project, home, report)]


def _written(spec: MachineSpec) -> str:
    return f"{spec.box_alias} ({spec.box} in its place)" if spec.box_alias else str(spec.box)


def _used(ref: BoxRef, home: HomeLayout, report: Report) -> tuple[Box, bool]:
    before = finding.find(ref, home, report=report)
    return before or finding.ensure(ref, home, report=report), before is None


def _locked(project: Project, home: HomeLayout, report: Report) -> Iterator[tuple[str, Get]]:
    """The very images that `up --locked` takes, as far as they are others than those of ``_used`` now."""
    path = locking.path_for(project.file)
    if not path.exists():
        return
    try:
        pinned = locking.pin(project, locking.read(path))
    except VmctlError as error:
        report(Warned(text=f"what {path.name} names is not rescued: {error.brief}", hint=error.hint))
        return
    taken: set[BoxRef] = set()
    for spec, loose in zip(pinned.machines, project.machines, strict=True):
        if spec.box not in taken and not _means(loose.box, spec.box, home):
            taken.add(spec.box)
            yield f"{_written(spec)}, as locked", functools.partial(_of_lock, spec.box, project, home, report)


def _means(ref: BoxRef, locked: BoxRef, home: HomeLayout) -> bool:
    """Whether a box means, without the lock as well, the images that it names."""
    try:
        box = finding.find(ref, home)
    except VmctlError:
        return False
    return box is not None and is_locked(locked, box)


def _of_lock(ref: BoxRef, project: Project, home: HomeLayout, report: Report) -> tuple[Box, bool]:
    before = finding.find(ref, home, report=report)
    locking.provide((ref,), project, home, report=report)
    return finding.ensure(ref, home, report=report), before is None


def from_vagrant(home: HomeLayout, *, report: Report = ignore) -> tuple[list[tuple[str, Get]], list[Rescued]]:
    """What Vagrant keeps on this host, oldest version first, without network; and what is passed over.

    Raises:
        UsageError: Vagrant keeps no boxes here.
    """
    taken, others = best_of_vagrant(vagrant_boxes(vagrant_directory()))
    chosen = {(one.name, one.version) for one in taken}
    passed = [Rescued(what=str(one), problem=why, passed_over=(one.name, one.version) in chosen) for one, why in others]

    def getter(one: Unpacked) -> Get:
        order = Order(address=str(one.directory), name=one.name, version=one.version, arch=one.arch)
        return lambda: obtaining.obtain(order, home, report=report)

    return [(str(one), getter(one)) for one in taken], passed


class Unpacked(Struct, frozen=True, kw_only=True):
    """One box, as Vagrant unpacked it."""

    name: str
    version: str
    provider: str
    directory: Path
    arch: str = ""
    """"" = Vagrant does not say."""

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.provider})"


def vagrant_directory() -> Path:
    """Where Vagrant keeps its boxes.

    Raises:
        UsageError: it keeps none on this host.
    """
    found = expanded(os.environ.get(VARIABLE) or "~/.vagrant.d") / "boxes"
    if not found.is_dir():
        raise UsageError(
            f"Vagrant has no boxes in {found}", hint=f"export {VARIABLE}=DIRECTORY, if it has another home"
        )
    return found


def vagrant_boxes(home: Path) -> list[Unpacked]:
    """All that lie there, by name, oldest version first."""
    found = [one for path in home.glob("*/*") if path.is_dir() for one in _of_version(path)]
    return sorted(sorted(found, key=_order), key=lambda one: one.name)


def best_of_vagrant(found: list[Unpacked]) -> tuple[list[Unpacked], list[tuple[Unpacked, str]]]:
    """One for each version and architecture that vmctl can use, libvirt's first; the others, and why not."""
    usable: dict[object, Unpacked] = {}
    others: list[tuple[Unpacked, str]] = []
    ranks = {provider: rank for rank, provider in enumerate(PREFERRED)}
    for one in sorted(found, key=lambda box: ranks.get(box.provider, len(ranks))):
        key = one.name, one.version, one.arch
        if one.provider not in ranks:
            others.append((one, f"vmctl cannot read boxes for {one.provider}"))
        elif key in usable:
            others.append((one, f"its box for {usable[key].provider} is taken"))
        else:
            usable[key] = one
    return [one for one in found if one in usable.values()], others


def _of_version(path: Path) -> Iterator[Unpacked]:
    name = path.parent.name
    for word, meant in WORDS.items():
        name = name.replace(word, meant)
    for inner in sorted(path.iterdir()):
        if vagrant_box.is_vagrant_box(inner):
            yield Unpacked(name=name, version=path.name, provider=inner.name, directory=inner)
        elif inner.is_dir():
            arch = box_names.architecture(inner.name)
            for one in sorted(inner.iterdir()):
                if vagrant_box.is_vagrant_box(one):
                    yield Unpacked(name=name, version=path.name, provider=one.name, directory=one, arch=arch)


def _order(one: Unpacked) -> Version:
    try:
        return Version(one.version)
    except VmctlError:
        return Version("0")
