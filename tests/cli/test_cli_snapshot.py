"""`vmctl snapshot` on fake machines: names, several machines, what vmctl itself remembers, and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import Project
from vmctl.driver import State
from vmctl.testing import FakeDriver

ONE = "machines: {web: {}}\n"
TWO = "machines: {web: {}, db: {}}\n"


def fake(project: Project) -> FakeDriver:
    from vmctl.driver import Host

    return FakeDriver(Host(home=project.home), directory=project.home / "fake")


def domain(project: Project, name: str = "web") -> str:
    rows = project.vmctl("status", "--json").answer["machines"]
    return str(next(row["domain"] for row in rows if row["name"] == name))


def listed(project: Project, name: str = "web") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = project.vmctl("snapshot", "list", "--json").answer["machines"][name]
    return rows


def test_a_running_machine_is_kept_and_brought_back(project: Project) -> None:
    project.vmfile(ONE)
    project.vmctl("up")
    ran = project.vmctl("snapshot", "save", "before")
    assert ran.out == "web: saved 'before'; running\n"
    assert project.vmctl("up").out.startswith("web is up; nothing to do")
    (kept,) = listed(project)
    assert {key: kept[key] for key in ("name", "parent", "memory", "current")} == {
        "name": "before",
        "parent": None,
        "memory": True,
        "current": True,
    }
    ran = project.vmctl("snapshot", "restore", "before", "--json")
    assert [row["step"] for row in ran.events("step-started")] == [
        *("restore_snapshot", "define", "start", "await_ssh", "wake", "mark_ready"),
    ]
    assert ran.answer["machines"][0]["state"] == "running"
    assert ran.answer["machines"][0]["ready"] is True
    assert project.vmctl("up").out.startswith("web is up; nothing to do")
    project.vmctl("destroy", "--yes")
    assert fake(project).states() == {}


def test_the_tree_is_shown(project: Project) -> None:
    project.vmfile(ONE)
    project.vmctl("up")
    assert project.vmctl("snapshot", "list").out == "no snapshots\n"
    for name in ("clean", "configured"):
        project.vmctl("snapshot", "save", name)
    project.vmctl("halt")
    project.vmctl("snapshot", "restore", "clean", "--no-start")
    assert project.states() == {"web": "saved"}
    project.vmctl("up")
    project.vmctl("halt", "--force")
    project.vmctl("snapshot", "save", "other way")
    lines = project.vmctl("snapshot", "list").out.splitlines()
    assert [line.split("  20")[0].rstrip() for line in lines[1:]] == [
        *("web      clean", "web        configured", "web        other way *"),
    ]
    assert [line.endswith("disk and memory") for line in lines[1:]] == [True, True, False]
    project.vmctl("snapshot", "delete", "clean")
    assert [(row["name"], row["parent"]) for row in listed(project)] == [("configured", None), ("other way", None)]


def test_a_name_is_not_overwritten_without_force(project: Project) -> None:
    project.vmfile(ONE)
    project.vmctl("up")
    project.vmctl("snapshot", "save", "one")
    first = listed(project)[0]["date"]
    failed = project.vmctl("snapshot", "save", "one", status=3)
    assert "hint: vmctl snapshot list web " in failed.err
    fake(project).fail("save_snapshot", "disk full")
    assert "disk full" in project.vmctl("snapshot", "save", "one", "--force", status=1).err
    fake(project).mend()
    assert [(row["name"], row["date"]) for row in listed(project)] == [("one", first)]
    project.vmctl("snapshot", "save", "one", "--force")
    assert len(listed(project)) == 1


@pytest.mark.parametrize("name", ["", "-x", "a/b", "tab\there", "x" * 81, " padded"])
def test_what_can_not_be_a_name(project: Project, name: str) -> None:
    project.vmfile(ONE)
    failed = project.vmctl("snapshot", "save", "--", name, status=2)
    assert "cannot name a snapshot" in failed.err


def test_several_machines_are_checked_before_any_is_changed(project: Project) -> None:
    project.vmfile(TWO)
    project.vmctl("up", "web")
    project.vmctl("snapshot", "save", "only web")  # db does not exist, and nobody named it
    assert "vmctl up db" in project.vmctl("snapshot", "save", "x", "db", status=3).err
    project.vmctl("up")
    assert "no snapshot 'only web': db" in project.vmctl("snapshot", "restore", "only web", status=3).err
    project.vmctl("suspend", "db")
    failed = project.vmctl("snapshot", "save", "both", status=3)
    assert "machine db is saved" in failed.err
    assert "vmctl resume db" in failed.err
    assert [row["name"] for row in listed(project)] == ["only web"]
    project.vmctl("resume", "db")
    project.vmctl("snapshot", "save", "both", "web", "db")
    project.vmctl("snapshot", "restore", "both")
    assert project.states() == {"web": "running", "db": "running"}
    project.vmctl("snapshot", "delete", "only web")
    assert "there is no snapshot" in project.vmctl("snapshot", "delete", "only web", status=3).err


def test_push_and_pop(project: Project) -> None:
    project.vmfile(ONE)
    project.vmctl("up")
    assert "nothing was pushed" in project.vmctl("snapshot", "pop", status=3).err
    project.vmctl("snapshot", "push")
    assert "push-2" in project.vmctl("snapshot", "push").out
    assert "restored 'push-2'" in project.vmctl("snapshot", "pop").out
    assert [row["name"] for row in listed(project)] == ["push-1"]
    project.vmctl("snapshot", "pop", "--no-delete")
    project.vmctl("snapshot", "pop")
    assert listed(project) == []


def test_without_memory_it_is_said_and_the_machine_boots(project: Project) -> None:
    project.vmfile(ONE + "fakeguests: {keeps_memory: false}\n")
    project.vmctl("up")
    assert "holds the disk alone" in project.vmctl("snapshot", "save", "disk").err
    ran = project.vmctl("snapshot", "restore", "disk", "--json")
    assert "update" in [row["step"] for row in ran.events("step-started")]
    assert project.states() == {"web": "running"}


def provision(project: Project, name: str) -> str:
    return f"  - {{name: {name}, shell: {{inline: 'echo {name} >> {project.root}/done'}}}}\n"


def test_a_later_provisioner_does_not_count_as_done_after_going_back(project: Project) -> None:
    head = ONE + "provision:\n"
    first, second = provision(project, "first"), provision(project, "second")
    project.vmfile(head + first)
    project.vmctl("up")
    project.vmctl("snapshot", "save", "after first")
    project.vmfile(head + first + second)
    project.vmctl("up")
    project.vmctl("snapshot", "restore", "after first")
    project.vmctl("up")
    assert (project.root / "done").read_text().split() == ["first", "second", "second"]
    assert project.vmctl("up").out.startswith("web is up; nothing to do")


@pytest.mark.parametrize("killed_in", ["restore_snapshot", "start"])
def test_kill_9_while_going_back_then_up_provisions_what_is_missing(project: Project, killed_in: str) -> None:
    head = ONE + "provision:\n"
    project.vmfile(head + provision(project, "first"))
    project.vmctl("up")
    project.vmctl("snapshot", "save", "kept")
    project.vmfile(head + provision(project, "first") + provision(project, "second"))
    project.vmctl("up")
    fake(project).fail(killed_in, "kill")
    assert run_apart(project, "snapshot", "restore", "kept") == -signal.SIGKILL
    fake(project).mend()
    before = (project.root / "done").read_text().split().count("second")
    project.vmctl("snapshot", "restore", "kept")
    project.vmctl("up")
    assert (project.root / "done").read_text().split().count("second") == before + 1
    assert project.states() == {"web": "running"}


@pytest.mark.parametrize("command", [("save", "new"), ("delete", "kept"), ("save", "--force", "kept")])
def test_kill_9_in_other_commands_leaves_what_was_there(project: Project, command: tuple[str, ...]) -> None:
    project.vmfile(ONE)
    project.vmctl("up")
    project.vmctl("snapshot", "save", "kept")
    fake(project).fail("remove_snapshot" if command[0] == "delete" else "save_snapshot", "kill")
    assert run_apart(project, "snapshot", *command) == -signal.SIGKILL
    fake(project).mend()
    assert [row["name"] for row in listed(project)] == ["kept"]
    project.vmctl("snapshot", *command)
    journal = project.layout.machine("web").journal.read_text().splitlines()
    assert json.loads(journal[-1])["phase"] == "done"


def run_apart(project: Project, *words: str) -> int:
    program = Path(sys.executable).with_name("vmctl")
    done = subprocess.run(
        [program, "-C", project.root, *words], check=False, env={**os.environ, "VMCTL_HOME": str(project.home)}
    )
    return done.returncode


def test_changed_hardware_comes_back_with_the_memory_and_is_told(project: Project) -> None:
    project.vmfile(ONE)
    project.vmctl("up")
    project.vmctl("snapshot", "save", "small")
    project.vmfile("machines: {web: {cpus: 4}}\n")
    project.vmctl("reload")
    project.vmctl("snapshot", "restore", "small")
    assert fake(project).machine(domain(project)).hardware["cpus"] != 4
    assert "cpus changed in the Vmfile: `vmctl reload web` applies it" in project.vmctl("up").err


def test_ports_of_then_that_somebody_else_has_now_stop_it_before_anything_changes(project: Project) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    project.vmfile(f"machines: {{web: {{ports: ['{port}:80']}}}}\n")
    project.vmctl("up")
    project.vmctl("snapshot", "save", "kept")
    project.vmfile(ONE)
    project.vmctl("reload")
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        failed = project.vmctl("snapshot", "restore", "kept", status=1)
        assert f"127.0.0.1:{port}/tcp is in use by" in failed.err
        assert project.states() == {"web": "running"}
    project.vmctl("snapshot", "restore", "kept")
    assert int(project.vmctl("port", "--guest", "80").out) == port


def test_a_snapshot_that_vmctl_did_not_make_is_restored_with_a_warning(project: Project) -> None:
    project.vmfile(ONE + "provision:\n" + provision(project, "first"))
    project.vmctl("up")
    name = domain(project)
    fake(project).save_snapshot(name, fake(project).machine(name).tag, "by hand")
    ran = project.vmctl("snapshot", "restore", "by hand")
    assert "did not make snapshot 'by hand'" in ran.err
    project.vmctl("up")
    assert (project.root / "done").read_text().split() == ["first", "first"]


def test_a_machine_that_left_the_vmfile_can_be_kept_and_its_snapshots_deleted(project: Project) -> None:
    project.vmfile(TWO)
    project.vmctl("up")
    project.vmfile(ONE)
    project.vmctl("snapshot", "save", "last", "db")
    assert listed(project, "db")[0]["name"] == "last"
    project.vmctl("snapshot", "delete", "last", "db")


def test_a_crashed_machine_is_kept_as_it_lies(project: Project) -> None:
    project.vmfile(ONE)
    project.vmctl("up")
    fake(project).put(domain(project), State.CRASHED)
    project.vmctl("snapshot", "save", "crash")
    assert [row["memory"] for row in listed(project)] == [False]
