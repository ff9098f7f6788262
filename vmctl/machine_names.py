"""Names of machines: what a user types, what the hypervisor sees, and the short id that works in any directory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vmctl import patterns
from vmctl.errors import UsageError, suggest
from vmctl.events import Report, Warned, ignore
from vmctl.layout import MACHINE, HomeLayout, ProjectLayout
from vmctl.store import files, project_identity

ID_LENGTH = 7
ID_PATTERN = re.compile(r"[0-9a-f]{4,40}")
LONGEST_PROJECT = 24


def hypervisor_name(root: Path, machine: str, project: str) -> str:
    """The machine's name in the hypervisor: ``<project dir>-<machine>-<first 8 of project id>``."""
    return f"{slug(root)}-{machine}-{project[:8]}"


def is_of(domain: str, machine: str, project: str) -> bool:
    """Whether vmctl would call a machine so, wherever the project was then. For what is not there to bear a tag."""
    return domain.endswith(f"-{machine}-{project[:8]}")


def slug(root: Path) -> str:
    """A project's name as part of names of machines: of its directory, a-z, 0-9 and "-"."""
    directory = re.sub(r"[^a-z0-9]+", "-", root.name.lower()).strip("-")[:LONGEST_PROJECT].strip("-")
    return directory or "project"


def short_id(project: str, machine: str) -> str:
    """The machine's id in ``vmctl list``: stable, the same wherever it is asked."""
    return hashlib.sha256(f"{project}/{machine}".encode()).hexdigest()[:ID_LENGTH]


def select(known: Sequence[str], wanted: Iterable[str]) -> tuple[str, ...]:
    """The known names that ``wanted`` (names and globs) means, in the order of ``known``; nothing wanted = all.

    Raises:
        UsageError: a name or pattern matches nothing.
    """
    texts = tuple(wanted)
    hint = f"machines of this project: {', '.join(known)}"
    names = {name: (name,) for name in known}
    parts = [part for text in texts for part in patterns.split(text) or [text]]
    for part in parts:
        try:
            patterns.meant(part.lstrip("!&"), names)
        except patterns.BadPattern as error:
            advice = f" ({error})" if "[" in part or "~" in part else suggest(part, known)
            raise UsageError(f"no machine matches '{part}'{advice}", hint=hint) from error
    if not texts:
        return tuple(known)
    if not (found := patterns.select(parts, names)):
        raise UsageError(f"'{' '.join(texts)}' leaves no machine", hint=hint)
    return found


def recorded(layout: ProjectLayout) -> tuple[str, ...]:
    """Names of the machines that a project has directories for."""
    return tuple(name for name in files.names(layout.machines) if MACHINE.fullmatch(name))


def everywhere(home: HomeLayout, report: Report = ignore) -> Iterator[tuple[str, Path, str]]:
    """All recorded machines of all known projects whose directories are there: project id, directory, machine.

    A project that cannot be read is told of and passed over: it must not hide the others.
    """
    for place in project_identity.known(home, report=report):
        try:
            present = place.is_there
        except OSError as error:
            report(Warned(text=f"the project {place.root} cannot be read: {error}"))
            continue
        if present:
            for machine in recorded(place.layout(home)):
                yield place.id, Path(place.root), machine


def find_by_id(home: HomeLayout, wanted: str) -> tuple[Path, str] | None:
    """The project directory and the machine whose id starts with ``wanted``; None = there is none.

    Raises:
        UsageError: several machines' ids start so.
    """
    if not ID_PATTERN.fullmatch(wanted):
        return None
    found = [
        (root, machine)
        for project, root, machine in everywhere(home)
        if short_id(project, machine).startswith(wanted[:ID_LENGTH])
    ]
    if len(found) > 1:
        raise UsageError(f"the id '{wanted}' means several machines", hint="vmctl list")
    return found[0] if found else None
