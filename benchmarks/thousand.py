"""Questions about a thousand machines, on the fake driver: what vmctl costs where no hypervisor has to be asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Finding, Project, median
from vmctl import vmfile
from vmctl.driver import State, Tag
from vmctl.layout import HomeLayout
from vmctl.lifecycle import plan
from vmctl.spec import GIB, MachineSpec
from vmctl.store import records
from vmctl.store.records import BoxUsed, Record
from vmctl.testing.fake_machines import FakeMachine, FakeMachines
from vmctl.workspace import Workspace

COUNT = 1000
BUDGET = 1.0
HYPERVISOR = "hypervisor"
ENTRY_POINTS = "[vmctl.providers]\nfake = vmctl.testing:FakeDriver\n"
METADATA = "Metadata-Version: 2.1\nName: fake-provider\nVersion: 1\n"
BOX = BoxUsed(name="debian-12", version="12", digest="0" * 64, user="vmctl")


def measure(place: Path, *, times: int) -> Iterator[Finding]:
    """Make the machines, then time ``status`` and ``plan``."""
    project = _project(place)
    _populate(project, Path(project.environment["VMCTL_HOME"]))
    for command in ("status", "plan"):
        taken = median(partial(project.vmctl, command), times=times)
        yield Finding(what=f"{command} of {COUNT} machines", value=taken, budget=BUDGET, detail="fake driver")


def _project(place: Path) -> Project:
    """A project whose provider is the fake driver, announced as any plug-in would be."""
    announced = place / "plugin" / "fake_provider-1.dist-info"
    announced.mkdir(parents=True)
    sys.path.insert(0, str(announced.parent))  # for this process, which loads the Vmfile too
    (announced / "METADATA").write_text(METADATA)
    (announced / "entry_points.txt").write_text(ENTRY_POINTS)
    root = place / "thousand"
    root.mkdir()
    lines = ["box: debian-12", "provider: fake", f"fake: {{directory: {place / HYPERVISOR}}}", "machines:"]
    (root / "Vmfile").write_text("\n".join([*lines, f"  m: {{count: {COUNT}}}", ""]))
    return Project(root, {"VMCTL_HOME": str(place / "home"), "PYTHONPATH": str(place / "plugin")})


def _populate(project: Project, home: Path) -> None:
    """What `up` would leave behind, without its waiting for guests that the fake driver does not have."""
    wanted = vmfile.load(project.root / "Vmfile")
    workspace = Workspace(wanted, home=HomeLayout(home))
    owner = workspace.ensure_id()
    with FakeMachines(home.parent / HYPERVISOR / "machines.json").open() as content:
        for spec in wanted.machines:
            record = _record(spec, owner)
            layout = workspace.layout.machine(spec.name)
            layout.root.mkdir(parents=True)
            records.save(layout, record)
            tag = Tag(project=owner, machine=spec.name, version=record.version, root=str(project.root))
            content.machines[record.name] = FakeMachine(tag, None, GIB, State.RUNNING, starts=1)


def _record(spec: MachineSpec, owner: str) -> Record:
    return Record(
        name=f"thousand-{spec.name}",
        project=owner,
        machine=spec.name,
        provider="fake",
        box=BOX,
        version="bench",
        user="vmctl",
        applied=plan.hardware(spec),
    )
