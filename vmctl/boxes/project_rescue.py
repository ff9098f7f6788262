"""What `vmctl box rescue --project` takes: what the project's machines are made from, and what its lock names."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from vmctl.boxes import finding, locking
from vmctl.boxes.box import Box
from vmctl.boxes.box_store import is_locked
from vmctl.boxes.rescuing import Get
from vmctl.errors import VmctlError
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef, MachineSpec, Project

BY_PEOPLE = ("", "box_aliases")
"""``MachineSpec.box_alias_by`` where vmctl's own table has no part in it."""


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
