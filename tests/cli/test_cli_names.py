"""Names that machines have for each other: written when something changed, and only then."""

from __future__ import annotations

import json

from tests.cli.harness import Project
from vmctl.lifecycle import etc_hosts

VMFILE = "machines:\n  web: {networks: [{name: lan, ip: 192.168.56.10}]}\n  db: {networks: [lan]}\n  alone: {}\n"


def hosts(project: Project) -> list[str]:
    """The guests' /etc/hosts: they are one host here."""
    return (project.home / "hosts").read_text().splitlines()


def answer(project: Project) -> dict[str, str]:
    """Digest of what each machine was told, by name."""
    found = project.layout.machines.glob("*/machine.json")
    return {path.parent.name: json.loads(path.read_text())["names"] for path in found}


def test_names_follow_machines_as_they_come_and_go(project: Project) -> None:
    project.vmfile(VMFILE)
    steps = [event["step"] for event in project.vmctl("up", "web", "alone", "--json").events("step-done")]
    assert steps.count("write_names") == 1
    assert hosts(project) == ["127.0.0.1 localhost", etc_hosts.BEGIN, "192.168.56.10 web web.shop", etc_hosts.END]
    before = answer(project)
    assert before["alone"] == ""
    project.vmctl("up", "db")  # web, which runs, hears of it
    assert [line for line in hosts(project) if " db db.shop" in line]
    both = answer(project)
    assert both["web"] == both["db"] != before["web"]
    project.vmctl("destroy", "db", "--yes")
    assert hosts(project) == ["127.0.0.1 localhost", etc_hosts.BEGIN, "192.168.56.10 web web.shop", etc_hosts.END]
    assert answer(project)["web"] == before["web"]


def test_nothing_changed_nothing_is_asked_of_a_guest(project: Project) -> None:
    project.vmfile(VMFILE)
    project.vmctl("up")
    (project.home / "hosts").write_text("changed by hand\n")
    for words in (("up",), ("up", "web")):
        project.vmctl(*words)
        assert hosts(project) == ["changed by hand"]
    project.vmctl("reload", "db")
    assert hosts(project) == ["changed by hand"], "its disk has it already"


def test_a_guest_that_can_not_be_told_is_a_warning(project: Project) -> None:
    (project.home / "hosts").mkdir()
    project.vmfile(VMFILE)
    ran = project.vmctl("up", "web")
    assert "web: warning: the names of the other machines could not be written in the guest" in ran.err
    assert answer(project)["web"] == ""
    (project.home / "hosts").rmdir()
    project.vmctl("up", "web")
    assert "192.168.56.10 web web.shop" in hosts(project)
