"""A record names a machine, its tag says whose it is: what bears another's tag is not touched, and others not asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import Project
from vmctl.driver import Host, State
from vmctl.testing import FakeDriver

ONE = "machines: {web: {}}\n"
LIFE = (["halt"], ["up"], ["suspend"], ["resume"], ["reload"], ["snapshot", "save", "s"], ["snapshot", "restore", "s"])


def fake(project: Project) -> FakeDriver:
    return FakeDriver(Host(home=project.home), directory=project.home / "fake")


def domain(project: Project) -> str:
    return str(project.vmctl("status", "--json").answer["machines"][0]["domain"])


def forge(project: Project, changes: dict[str, Any]) -> None:
    path = project.layout.machine("web").record
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def victim(project: Project, tmp_path: Path) -> Project:
    (tmp_path / "victim").mkdir()
    other = Project(tmp_path / "victim", project.home)
    other.vmfile(ONE)
    other.vmctl("up")
    return other


def test_a_record_that_names_anothers_machine_leads_to_ones_own(project: Project, victim: Project) -> None:
    project.vmfile(ONE)
    project.vmctl("up")
    own, theirs = domain(project), domain(victim)
    forge(project, {"name": theirs})
    assert domain(project) == own
    project.vmctl("halt")
    assert [fake(project).states()[name].state for name in (own, theirs)] == [State.STOPPED, State.RUNNING]
    project.vmctl("destroy", "--yes")
    assert list(fake(project).states()) == [theirs]


def test_destroying_what_was_never_made_leaves_what_its_record_names(project: Project, victim: Project) -> None:
    project.vmfile(ONE)
    project.vmctl("up")
    theirs, before = domain(victim), fake(victim).states()[domain(victim)]
    fake(project).destroy(domain(project), fake(project).machine(domain(project)).tag)
    forge(project, {"name": theirs})
    project.vmctl("destroy", "--yes")
    assert fake(project).states() == {theirs: before}


def test_a_record_does_not_say_whose_its_machine_is(project: Project, victim: Project) -> None:
    project.vmfile(ONE)
    project.vmctl("up")
    theirs = fake(victim).states()[domain(victim)]
    own = domain(project)
    forge(project, {"name": domain(victim), "project": theirs.tag.project})
    project.vmfile(ONE + "memory: 2GiB\n")
    project.vmctl("reload")
    assert fake(project).machine(own).hardware["memory"] == 2**31
    assert fake(victim).states()[domain(victim)] == theirs


def test_one_machine_alone_is_asked_about(project: Project) -> None:
    project.vmfile("machines: {web: {}, db: {}}\n")
    project.vmctl("up")
    fake(project).fail("states", "the others were asked about")
    for words in LIFE:
        project.vmctl(*words, "web")
    project.vmctl("status", status=1)
