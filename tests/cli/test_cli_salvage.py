"""A Vmfile that has become invalid does not lock anybody out of (or in with) the machines that it made."""

import json
from pathlib import Path

import pytest

from tests.cli.harness import Project

BROKEN = "machines: {web: {}, db: {}}\nprovision: [{ansible: {playbook: gone.yml}}]\n"


@pytest.fixture
def broken(project: Project) -> Project:
    """Two machines, and a Vmfile whose playbook somebody has removed."""
    project.vmfile("machines: {web: {}, db: {}}\n")
    project.vmctl("up")
    project.vmfile(BROKEN)
    return project


def test_what_looks_works_with_a_warning(broken: Project) -> None:
    ran = broken.vmctl("status")
    assert "gone.yml; going on with the machines that were created (vmctl validate)" in ran.err
    assert broken.states() == {"db": "running", "web": "running"}
    assert "22/tcp" in broken.vmctl("port").out
    assert "Host web" in broken.vmctl("ssh-config", "web").out
    assert broken.vmctl("ssh", "web", "-c", "exit 7", status=7).status == 7


def test_a_query_with_json_is_one_object_whatever_is_warned_of(broken: Project) -> None:
    ran = broken.vmctl("status", "--json")
    assert {row["name"] for row in json.loads(ran.out)["machines"]} == {"web", "db"}
    assert "warning: " in ran.err


def test_what_takes_down_works(broken: Project) -> None:
    broken.vmctl("halt", "web")
    assert broken.states() == {"db": "running", "web": "stopped"}
    broken.vmctl("destroy", "--yes")
    assert json.loads((broken.home / "ports.json").read_text()) == []


def test_not_even_yaml_is_needed(broken: Project) -> None:
    (broken.root / "Vmfile").write_text("}: [")
    broken.vmctl("destroy", "--yes")
    assert "not YAML" in broken.vmctl("status", status=2).err


@pytest.mark.parametrize("words", [("up",), ("reload",), ("provision",), ("plan",), ("sync",)])
def test_what_obeys_the_vmfile_is_refused(broken: Project, words: tuple[str, ...]) -> None:
    ran = broken.vmctl(*words, "--json", status=2)
    (fault,) = ran.answer["faults"]
    assert (fault["line"], fault["path"]) == (5, "provision.0.ansible.playbook")


def test_a_mistake_on_the_command_line_stays_one(broken: Project) -> None:
    assert "holds no 'nope'" in broken.vmctl("--set", "nope=1", "status", status=2).err


def test_an_id_leads_to_its_own_project_only(project: Project, tmp_path: Path) -> None:
    project.vmfile("")
    project.vmctl("up")
    (row,) = project.vmctl("list", "--json").answer["machines"]
    (project.root / "Vmfile").rename(tmp_path / "Vmfile")
    assert project.vmctl("-C", "/", "status", row["id"], "--json").answer["project"] == str(project.root)
    project.vmctl("-C", "/", "destroy", "--yes", row["id"])
    assert project.vmctl("list").out == "no machines\n"
