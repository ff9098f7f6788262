"""`vmctl test` on fake machines with real SSH servers, real Ansible and real pytest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.cli.harness import Project, make_box

VMCTL = Path(sys.executable).with_name("vmctl")
PLAYBOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: Touch something
      ansible.builtin.command: "true"
      changed_when: %s
"""
VMFILE = "ports: ['22995:80']\nprovision: [{ansible: site.yml}]\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_PYTHON_INTERPRETER", sys.executable)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def left(project: Project) -> list[str]:
    """Machines of all projects, and directories of tests."""
    rows = project.vmctl("list", "--json").answer["machines"]
    trials = project.layout.trials
    found = [f"{row['name']} in {Path(row['project']).name}" for row in rows]
    return found + [entry.name for entry in trials.iterdir() if entry.is_dir()] if trials.exists() else found


def results(answer: dict[str, object]) -> dict[str, dict[str, str]]:
    """Result of each phase, by suite."""
    suites = answer["suites"]
    assert isinstance(suites, list)
    return {suite["name"]: {phase["name"]: phase["result"] for phase in suite["phases"]} for suite in suites}


def junit(project: Project) -> ET.Element:
    """The report that was written."""
    return ET.fromstring((project.root / "result.xml").read_text())  # noqa: S314  vmctl wrote it


def test_a_test_passes_and_the_users_machine_never_notices(project: Project) -> None:
    (project.root / "site.yml").write_text(PLAYBOOK % "false")
    (project.root / "check.yml").write_text(PLAYBOOK % "false")
    (project.root / "check.sh").write_text("#!/bin/sh\necho checked by script\n")
    (project.root / "tests").mkdir()
    (project.root / "tests" / "test_it.py").write_text(
        "def test_it(machines, inventory):\n"
        "    assert machines['default'].run('echo $((1 + 1))').stdout == '2\\n'\n"
        "    assert (inventory / 'hosts.yml').exists()\n"
    )
    project.vmfile(VMFILE + "test: {verify: [check.yml, check.sh, tests]}\n")
    project.vmctl("up")
    before = project.vmctl("status", "--json").out
    ran = project.vmctl("test", "--json", "--junit", "result.xml")
    assert results(ran.answer) == {
        "tiny": dict.fromkeys(
            ["up", "idempotence", "reboot", "verify check", "verify check", "verify tests", "destroy"], "passed"
        )
    }
    assert project.vmctl("status", "--json").out == before
    assert left(project) == ["default in shop"]
    suite = junit(project).find("testsuite")
    assert suite is not None
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("tiny", "7", "0")
    script = suite.findall("testcase")[4]
    assert (script.get("classname"), script.findtext("system-out")) == ("vmctl.shop.tiny", "default: checked by script")


def test_testinfra_reaches_all_machines_or_those_that_a_module_names(project: Project) -> None:
    tests = project.root / "tests"
    tests.mkdir()
    (tests / "test_all.py").write_text(
        "def test_all(host, machines):\n"
        "    assert host.backend.hostname in machines\n"
        "    assert host.run('exit 3').rc == 3\n"
    )
    for name, where, means in (("one", "b", "b"), ("group", "ansible://first", "a")):
        (tests / f"test_{name}.py").write_text(
            f"testinfra_hosts = ['{where}']\n"
            "def test_it(host):\n"
            f"    assert (host.backend.hostname, host.run('echo hello').stdout) == ('{means}', 'hello\\n')\n"
        )
    (project.root / "site.yml").write_text(PLAYBOOK % "false")
    project.vmfile(
        "machines: {a: {}, b: {}}\n"
        "provision: [{ansible: {playbook: site.yml, groups: {first: [a]}}}]\n"
        "test: {verify: tests, reboot: false, idempotence: false}\n"
    )
    assert "4 passed" in project.vmctl("test").err


def test_what_is_not_idempotent_is_named_and_the_rest_is_skipped(project: Project) -> None:
    (project.root / "site.yml").write_text(PLAYBOOK % "true")
    (project.root / "check.sh").touch()
    project.vmfile(VMFILE + "test: {verify: check.sh}\n")
    ran = project.vmctl("test", "--junit", "result.xml", status=1)
    assert "error: tiny: idempotence failed" in ran.err
    assert "provisioning again changed 1 on default\n  default: Touch something" in ran.err
    assert "vmctl test --keep" in ran.err
    assert left(project) == []
    cases = {case.get("name"): case for case in junit(project).iter("testcase")}
    failure = cases["idempotence"].find("failure")
    assert failure is not None
    assert "default: Touch something" in str(failure.text)
    skipped = cases["verify check"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "idempotence failed"
    assert cases["destroy"].find("skipped") is None


def test_kept_machines_can_be_looked_at_and_the_next_test_is_fresh(project: Project) -> None:
    (project.root / "site.yml").write_text(PLAYBOOK % "false")
    (project.root / "test_it.py").write_text("def test_it(machines):\n    assert not machines\n")
    project.vmfile(VMFILE + "test: {verify: test_it.py, reboot: false}\n")
    ran = project.vmctl("test", "--keep", "--json", status=1)
    assert results(ran.answer) == {
        "tiny": {"up": "passed", "idempotence": "passed", "reboot": "skipped", "verify test_it": "failed"}
    }
    place = project.layout.trials / "shop-tiny"
    assert left(project) == ["default in shop-tiny", "shop-tiny"]
    kept = Project(place, project.home)
    assert kept.states() == {"default": "running"}
    assert kept.vmctl("ssh", "-c", "true", "--json").answer["status"] == 0
    (project.root / "test_it.py").write_text("def test_it(machines):\n    assert machines\n")
    project.vmctl("test")
    assert left(project) == []


def test_several_boxes_one_after_the_other(project: Project) -> None:
    make_box(project.home, "other")
    project.vmfile("")
    ran = project.vmctl("test", "--box", "tiny", "--box", "other", "--json")
    phases = {"up": "passed", "idempotence": "skipped", "reboot": "passed", "destroy": "passed"}
    assert results(ran.answer) == {"tiny": phases, "other": phases}
    assert "no playbook" in ran.answer["suites"][0]["phases"][1]["skipped"]
    assert "--box: " in project.vmctl("test", "--box", "ftp://x", status=2).err
    project.vmfile("test: {boxes: other}\n")
    assert list(results(project.vmctl("test", "--json").answer)) == ["other"]


def test_another_box_brings_its_own_defaults_below_the_vmfile(project: Project) -> None:
    make_box(project.home, "other", defaults={"cpus": 3, "memory": "3GiB"})
    shell = "{on: host, inline: 'cat $VMCTL_HOME/projects/*/test/shop-other/Vmfile > seen'}"
    project.vmfile(f"cpus: 2\nnetworks: [lan]\nprovision: [{{shell: {shell}}}]\n")
    project.vmctl("test", "--box", "other")
    seen = (project.root / "seen").read_text().splitlines()
    assert {"    box: other", "    cpus: 2", "    memory: 3GiB"} <= set(seen)
    assert "isolated: true" in "".join(seen)  # the user's machines may have the same addresses


def test_a_machine_that_does_not_come_up_fails_the_test(project: Project) -> None:
    project.vmfile("ready: [{command: 'false', timeout: 1}]\n")
    ran = project.vmctl("test", "--json", status=1)
    assert results(ran.answer)["tiny"]["up"] == "failed"
    assert "timed out waiting for `false`" in ran.answer["details"]
    assert left(project) == []


def test_ctrl_c_leaves_nothing(project: Project) -> None:
    project.vmfile("ready: [{command: 'false', timeout: 60}]\n")
    argv = [str(VMCTL), "-C", str(project.root), "test", "--json"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ.copy())
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line).get("step") == "check_ready":
            break
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 130
    assert left(project) == []
