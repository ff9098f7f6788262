"""Where a test has its machines: a state of its own, with a Vmfile that says what the machines are."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmctl.events import Report
from vmctl.layout import VMFILE, HomeLayout
from vmctl.machines import slug
from vmctl.spec import BoxRef, MachineSpec, Project
from vmctl.store import files, identity, locks
from vmctl.vmfile import effective, to_yaml
from vmctl.workspace import Workspace

AS_WRITTEN = "vmfile"
"""Name of the suite whose boxes are those of the Vmfile, where they differ."""


@dataclass(frozen=True)
class Place:
    """A test's name and its project at work."""

    name: str
    root: Path
    """Its directory; `vmctl -C` works there while its machines exist."""
    workspace: Workspace

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else tests the same project with the same box meanwhile."""
        path = self.root.with_name(f"{self.root.name}.lock")
        with locks.hold(path, f"the test of {self.name}", timeout=self.workspace.lock_timeout):
            yield

    def remove(self) -> None:
        """Forget all of it; its machines are gone."""
        layout = identity.project_layout(self.root)
        project = identity.read(layout)
        files.remove_tree(self.root)
        if project is not None:
            identity.forget(project, self.workspace.home)


def prepare(
    project: Project, box: BoxRef | None, *, home: HomeLayout, report: Report, lock_timeout: float | None
) -> Place:
    """The place for testing a project, with another box for all machines where one is given.

    Ports of the host that the Vmfile names belong to the user's own machines: a test gets free ones.
    """
    boxes = {str(spec.box) for spec in project.machines} if box is None else {str(box)}
    name = boxes.pop() if len(boxes) == 1 else AS_WRITTEN
    machines = tuple(_apart(spec, box) for spec in project.machines)
    tested = dataclasses.replace(project, machines=machines)
    directory = identity.project_layout(project.root).trials / f"{slug(project.root)}-{slug(Path(name))}"
    workspace = Workspace(tested, home=home, report=report, lock_timeout=lock_timeout, state=directory)
    return Place(name, directory, workspace)


def _apart(spec: MachineSpec, box: BoxRef | None) -> MachineSpec:
    ports = tuple(dataclasses.replace(port, host=None) for port in spec.ports)
    return dataclasses.replace(spec, ports=ports, box=box or spec.box)


def write_vmfile(place: Place) -> None:
    """Write what the machines are, for commands in the place's directory."""
    files.write(place.root / VMFILE, to_yaml(effective(place.workspace.project)))
