"""Where a test has its machines: a state of its own, with a Vmfile that says what the machines are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from vmctl.events import Report
from vmctl.layout import VMFILE, HomeLayout
from vmctl.machine_names import slug
from vmctl.spec import MachineSpec, Project
from vmctl.store import files, locks, project_identity
from vmctl.vmfile import effective, to_yaml
from vmctl.workspace import Workspace

AS_WRITTEN = "vmfile"
"""Name of the suite whose boxes are those of the Vmfile, where they differ."""


@dataclass(frozen=True)
class Sandbox:
    """A test's name and its project at work."""

    name: str
    root: Path
    """Its directory; `vmctl -C` works there while its machines exist."""
    workspace: Workspace
    read: Callable[[], Project]
    """Reads the Vmfile again: a box that came in may have defaults."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else tests the same project with the same box meanwhile."""
        path = self.root.with_name(f"{self.root.name}.lock")
        with locks.hold(path, f"the test of {self.name}", timeout=self.workspace.lock_timeout):
            yield

    def remove(self) -> None:
        """Forget all of it; its machines are gone."""
        self.workspace.forget()
        files.remove_tree(self.root)


def prepare(read: Callable[[], Project], *, home: HomeLayout, report: Report, lock_timeout: float | None) -> Sandbox:
    """The place for testing a project, which ``read`` gives.

    Ports of the host that the Vmfile names belong to the user's own machines: a test gets free ones. Addresses on
    networks stay what they are, for playbooks may name them: nobody else is on the test's networks.
    """

    def read_apart() -> Project:
        project = read()
        return structs.replace(project, machines=tuple(map(_apart, project.machines)))

    project = read_apart()
    boxes = {str(spec.box) for spec in project.machines}
    name = boxes.pop() if len(boxes) == 1 else AS_WRITTEN
    parent = project_identity.ensure(project.root, home, report=report).layout(home)
    directory = files.make_directory(parent.trials / f"{slug(project.root)}-{slug(Path(name))}")
    workspace = Workspace(project, home=home, report=report, lock_timeout=lock_timeout, state=directory)
    return Sandbox(name, directory, workspace, read_apart)


def _apart(spec: MachineSpec) -> MachineSpec:
    ports = tuple(structs.replace(port, host=None) for port in spec.ports)
    networks = tuple(structs.replace(network, isolated=True) for network in spec.networks)
    return structs.replace(spec, ports=ports, networks=networks)


def write_vmfile(place: Sandbox, project: Project) -> None:
    """Write what the machines are, for commands in the place's directory."""
    files.write(place.root / VMFILE, to_yaml(effective(project)))
