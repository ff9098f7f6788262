"""`vmctl up` and `vmctl provision` with real scripts and the real Ansible on fake machines."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect  # type: ignore[import-untyped]  # ansible-runner brings it
import pytest

from tests.cli.harness import Project
from vmctl import process

SCRIPT = "provision: [{shell: {inline: 'echo ran >> %s', become: false}, name: note}]\n"
PLAYBOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: look
      ansible.builtin.command: "%s"
      changed_when: false
"""


PLAYBOOK_THAT_COPIES = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: have it
      ansible.builtin.copy: {dest: "%s", content: content}
"""


pytestmark = pytest.mark.usefixtures("ansible_python")


def test_up_provisions_once_and_provision_does_it_again(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    project.vmfile(SCRIPT % log)
    project.vmctl("up")
    assert "nothing to do" in project.vmctl("up").out
    assert log.read_text() == "ran\n"
    answer = project.vmctl("provision", "--json").answer
    assert answer["provisioned"]["machines"]["default"]["ran"] == ["note"]
    assert log.read_text() == "ran\nran\n"
    assert "nothing to do" in project.vmctl("provision", "--changed").out


def test_a_changed_script_runs_at_the_next_up(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    project.vmfile(SCRIPT % log)
    project.vmctl("up")
    project.vmfile(SCRIPT.replace("echo ran", "echo changed") % log)
    assert project.vmctl("up", "--json").answer["changed"] is True
    assert log.read_text() == "ran\nchanged\n"


def test_a_new_machine_is_provisioned_anew(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    project.vmfile(SCRIPT % log)
    project.vmctl("up")
    project.vmctl("destroy", "--yes")
    project.vmctl("up")
    assert log.read_text() == "ran\nran\n"


def test_a_failed_playbook_is_exit_4_with_a_summary_and_up_tries_again(project: Project) -> None:
    playbook = project.root / "site.yml"
    playbook.write_text(PLAYBOOK % "false")
    project.vmfile("provision: [{ansible: {playbook: site.yml}}]\n")
    ran = project.vmctl("up", "--json", status=4)
    assert ran.answer["kind"] == "TasksFailed"
    assert f"default: task 'look' failed at {playbook}:4" in ran.answer["brief"]
    assert ran.answer["provisioned"]["machines"]["default"]["status"] == "failed"
    assert project.states() == {"default": "running"}
    playbook.write_text(PLAYBOOK % "true")
    assert project.vmctl("up", "--json").answer["provisioned"]["machines"]["default"]["ok"] == 1
    assert project.vmctl("up", "--json").answer["changed"] is False


def test_only_names_provisioners_and_misspelt_ones_are_refused_first(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    project.vmfile(SCRIPT % log)
    ran = project.vmctl("up", "--only", "not", status=2)
    assert "there is no provisioner 'not', did you mean 'note'?" in ran.err
    assert project.states() == {"default": "not created"}
    project.vmctl("up", "--no-provision")
    project.vmctl("provision", "--only", "note")
    assert log.read_text() == "ran\n"


def test_a_machine_that_does_not_run_is_exit_3(project: Project, tmp_path: Path) -> None:
    project.vmfile(SCRIPT % (tmp_path / "log"))
    ran = project.vmctl("provision", status=3)
    assert "machine default is not created, not running" in ran.err
    assert "vmctl up default" in ran.err


def test_an_up_with_nothing_to_do_imports_nothing_heavy(project: Project, tmp_path: Path) -> None:
    project.vmfile(SCRIPT % (tmp_path / "log"))
    project.vmctl("up")
    heavy = ("ansible_runner", "paramiko", "pexpect", "requests", "rich", "cryptography", "vmctl.provision.runner")
    code = "import sys\nfrom vmctl.cli.running import run\nfrom vmctl.cli.root import cli\n"
    code += f"run(cli, ['-C', {str(project.root)!r}, 'up'])\n"
    code += f"print([name for name in {heavy!r} if name in sys.modules])"
    root = Path(__file__).parents[2]
    path = ":".join(str(root / part) for part in (".", "providers", "boxes", "playbooks"))
    done = process.run([sys.executable, "-c", code], env={"PYTHONPATH": f"{path}:{os.environ['PYTHONPATH']}"})
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_tells_what_would_change_and_changes_nothing(project: Project, tmp_path: Path) -> None:
    made, log = tmp_path / "made", tmp_path / "log"
    (project.root / "site.yml").write_text(PLAYBOOK_THAT_COPIES % made)
    project.vmfile(f"provision: [{{ansible: site.yml}}, {{shell: {{inline: 'date >> {log}', become: false}}}}]\n")
    project.vmctl("up", "--no-provision")
    ran = project.vmctl("provision", "--check", "--diff", "--json")
    (shown,) = ran.answer["provisioned"]["machines"].values()
    assert (ran.answer["changed"], shown["changed"], shown["not_checked"]) == (True, 1, ["shell-1"])
    assert shown["changed_tasks"] == [f"have it ({project.root / 'site.yml'}:4)"]
    assert any("+content" in event["line"] for event in ran.events("output"))
    assert (made.exists(), log.exists()) == (False, False)
    assert project.vmctl("up", "--json").answer["changed"] is True  # a check is not a success to be recorded
    assert (made.exists(), log.exists()) == (True, True)


def test_from_begins_in_the_middle_and_each_machine_is_told(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    entries = ", ".join(
        f"{{name: {name}, shell: {{inline: 'echo {name} >> {log}', on: host}}, run: {run}}}"
        for name, run in (("a", "once"), ("b", "never"), ("c", "once"))
    )
    project.vmfile(f"provision: [{entries}]\n")
    project.vmctl("up", "--no-provision")
    assert "default: provisioned (2 ok, 2 changed)" in project.vmctl("provision", "--from", "b").out
    assert log.read_text() == "b\nc\n"
    assert project.vmctl("up", "--json").answer["provisioned"]["machines"]["default"]["ran"] == ["a"]
    assert "there is no provisioner 'd'" in project.vmctl("provision", "--from", "d", status=2).err


def asking(project: Project, log: Path, more: str = "") -> None:
    """A playbook that asks for two passwords, on two machines of which one waits for the other's provisioning."""
    (project.root / "site.yml").write_text(PLAYBOOK % "true")
    first = f"{{shell: {{inline: 'echo ran >> {log}', on: host}}}}"
    entry = f"{{ansible: {{playbook: site.yml, ask_become_pass: true, vault: prompt}}{more}}}"
    needs = "depends_on: {db: provisioned}"
    project.vmfile(f"machines: {{db: {{}}, web: {{{needs}}}}}\nprovision: [{first}, {entry}]\n")


def typed(project: Project, *words: str) -> pexpect.spawn[str]:
    """The command in a terminal, with both questions answered."""
    vmctl = str(Path(sys.executable).with_name("vmctl"))
    child = pexpect.spawn(vmctl, [*words], cwd=str(project.root), timeout=60, encoding="utf-8")
    for what in ("the password of the vault 'default'", "the password for become"):
        child.expect_exact(f"site: {what}: ")
        assert "running" not in set(project.states().values()) or words[0] != "up"
        child.sendline("correct-horse")
    return child


def test_a_password_that_nobody_can_type_is_exit_2_before_anything_starts(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    asking(project, log)
    for words in (["up"], ["test"]):
        ran = project.vmctl(*words, status=2)
        assert "error: provisioner 'site' (" in ran.err
        assert "asks for the password of the vault 'default', and there is no terminal to ask for it" in ran.err
    assert set(project.states().values()) == {"not created"}
    assert not log.exists()
    project.vmctl("up", "--no-provision")
    project.vmctl("up", "--only", "shell-1")
    assert log.read_text() == "ran\nran\n"


def test_passwords_are_asked_for_first_and_once_and_only_where_they_are_needed(
    project: Project, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    asking(project, log)
    child = typed(project, "up")
    child.expect_exact("db, web are up")
    child.expect(pexpect.EOF)
    assert "correct-horse" not in log.read_text()
    assert "nothing to do" in project.vmctl("up").out
    (project.root / "site.yml").write_text(PLAYBOOK % "/bin/true")
    assert "no terminal to ask for it" in project.vmctl("up", status=2).err
    project.vmctl("halt", "web")
    child = typed(project, "provision", "--changed", "db")
    child.expect(r"db: provisioned \(1 ok\)")
    child.expect(pexpect.EOF)
    assert "no terminal to ask for it" in project.vmctl("up", status=2).err
    assert project.states() == {"db": "running", "web": "stopped"}
    asking(project, log, more=", run: never")
    project.vmctl("up")
    assert "no terminal to ask for it" in project.vmctl("up", "--only", "site", status=2).err


def test_a_test_asks_once_for_all_its_phases(project: Project, tmp_path: Path) -> None:
    asking(project, tmp_path / "log")
    child = typed(project, "test")
    child.expect_exact("idempotence passed")
    child.expect_exact("destroy passed")
    child.expect(pexpect.EOF)
