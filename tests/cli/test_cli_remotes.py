"""The same provisioners on servers that vmctl did not make: real OpenSSH, real Ansible, no hypervisor."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pexpect  # type: ignore[import-untyped]  # ansible-runner brings it
import pytest

from tests.cli.harness import Project
from tests.cli.ssh_servers import SshServers
from tests.unit.test_provision_inventory_formats import agrees, read
from vmctl import process

PLAYBOOK = """\
- hosts: webservers
  gather_facts: false
  tasks:
    - name: have it
      ansible.builtin.copy: {dest: "%s/{{ inventory_hostname }}", content: "{{ colour }}"}
- hosts: all
  gather_facts: false
  tasks:
    - name: look
      ansible.builtin.command: "true"
      changed_when: false
"""


pytestmark = pytest.mark.usefixtures("ansible_python")


def write(project: Project, text: str) -> None:
    (project.root / "Vmfile").write_text(text)


def both(project: Project, servers: SshServers, place: Path, more: str = "") -> None:
    """A Vmfile with servers alone: a playbook for web servers, and a script for all."""
    (project.root / "site.yml").write_text(PLAYBOOK % place)
    (project.root / "note.sh").write_text(f'#!/bin/sh\necho "$SERVER_NAME $1 $WORD" >> {place}/note\n')
    write(
        project,
        "remotes:\n"
        + servers.target(more=more + "    vars: {colour: green}\n", **{"web-a": "webservers"})
        + "provision:\n  - ansible: site.yml\n  - shell: {script: note.sh, args: ['a b'], env: {WORD: \"it's\"}}\n",
    )


def test_servers_are_provisioned_without_a_hypervisor(project: Project, servers: SshServers, place: Path) -> None:
    both(project, servers, place)
    ran = project.vmctl("provision", "--target", "staging", "--yes", "--json")
    reported = ran.answer["provisioned"]["machines"]
    assert {name: (row["status"], row["ran"]) for name, row in reported.items()} == {
        "web-a": ("done", ["site", "note"]), "db-a": ("done", ["site", "note"]),
    }  # fmt: skip
    assert ((place / "web-a").read_text(), (place / "db-a").exists()) == ("green", False)
    assert sorted((place / "note").read_text().splitlines()) == ["db-a a b it's", "web-a a b it's"]
    (run,) = project.vmctl("history", "--target", "staging", "--json").answer["runs"]
    assert (run["result"], run["hosts"], run["provisioners"]) == ("done", ["web-a", "db-a"], ["site", "note"])
    assert "it's" not in project.layout.history.read_text()


def test_a_check_tells_what_differs_and_changes_nothing(project: Project, servers: SshServers, place: Path) -> None:
    both(project, servers, place)
    ran = project.vmctl("drift", "--target", "staging", "--diff", "--json", status=1)
    reported = ran.answer["drift"]
    assert {name: row["verdict"] for name, row in reported.items()} == {"web-a": "drifted", "db-a": "in sync"}
    assert reported["web-a"]["changed_tasks"] == [f"have it ({project.root / 'site.yml'}:4)"]
    assert reported["db-a"]["not_checked"] == ["note"]
    assert any("+green" in event["line"] for event in ran.events("output"))
    assert list(place.iterdir()) == []
    project.vmctl("provision", "--target", "staging", "webservers", "--yes")
    assert sorted(path.name for path in place.iterdir()) == ["note", "web-a"]
    calm = project.vmctl("drift", "--target", "staging", "--limit", "web-a")
    assert calm.out.splitlines() == ["HOST   VERDICT", "web-a  in sync", "web-a: not checked: note"]
    shown = project.vmctl("history").out
    assert [line.split("  ")[-1].strip() for line in shown.splitlines()[1:]] == ["done (check)", "done", "done (check)"]


def test_an_unreachable_server_is_exit_5_and_the_others_go_on(
    project: Project, servers: SshServers, place: Path
) -> None:
    both(project, servers, place)
    servers.stop("db-a")
    ran = project.vmctl("provision", "--target", "staging", "--yes", "--json", status=5)
    assert ran.answer["brief"].startswith("db-a: Ansible could not reach it (provisioner 'site'")
    reported = ran.answer["provisioned"]["machines"]
    assert (reported["db-a"]["status"], reported["db-a"]["not_attempted"]) == ("unreachable", ["note"])
    assert reported["web-a"]["ran"] == ["site", "note"]
    assert ran.answer["hint"] == "vmctl ssh --target staging db-a"
    assert project.vmctl("drift", "--target", "staging", "db-a", "--json", status=5).answer["drift"] == {
        "db-a": {"verdict": "unreachable", "changed_tasks": [], "not_checked": []}
    }


def test_a_wrong_host_key_is_refused_by_scripts_and_playbooks(
    project: Project, servers: SshServers, place: Path
) -> None:
    both(project, servers, place)
    keys = servers.known_hosts.read_text().splitlines()
    swapped = [f"{one.split()[0]} {' '.join(other.split()[1:])}\n" for one, other in zip(keys, keys[::-1], strict=True)]
    servers.known_hosts.write_text("".join(swapped))
    for name in ("note", "site"):
        ran = project.vmctl("provision", "--target", "staging", "--yes", "--only", name, "--json", status=5)
        assert "IDENTIFICATION HAS CHANGED" in ran.answer["details"]
    assert "ssh could not log in" in project.vmctl("ssh", "--target", "staging", "db-a", "-c", "true", status=5).err
    assert list(place.iterdir()) == []
    assert servers.known_hosts.read_text() == "".join(swapped)


def test_nobody_to_ask_is_an_error_that_names_the_option(project: Project, servers: SshServers, place: Path) -> None:
    both(project, servers, place)
    ran = project.vmctl("provision", "--target", "staging", status=2)
    assert "Run site, note on web-a, db-a of staging?" in ran.err
    assert "hint: add --yes" in ran.err
    both(project, servers, place, more="    confirm: name\n")
    assert "hint: add --confirm staging" in project.vmctl("provision", "--target", "staging", "--yes", status=2).err
    wrong = project.vmctl("provision", "--target", "staging", "--confirm", "production", status=2)
    assert "the target is staging" in wrong.err
    assert list(place.iterdir()) == []
    project.vmctl("provision", "--target", "staging", "--confirm", "staging", "--only", "note", "web-a")
    assert (place / "note").read_text() == "web-a a b it's\n"


def test_a_failing_task_is_exit_4_and_named(project: Project, servers: SshServers, place: Path) -> None:
    both(project, servers, place)
    playbook = project.root / "site.yml"
    playbook.write_text(playbook.read_text().replace('"true"', '"false"'))
    ran = project.vmctl("provision", "--target", "staging", "--yes", "--json", status=4)
    assert f"web-a: task 'look' failed at {playbook}:9" in ran.answer["details"]
    assert ran.answer["hint"] == "correct it, then: vmctl provision --target staging web-a db-a"
    (run,) = project.vmctl("history", "web-a", "--json").answer["runs"]
    assert (run["result"], run["machines"]["web-a"]["failed_provisioner"]) == ("failed", "site")


def test_an_unreachable_server_is_told_as_such_in_the_history(
    project: Project, servers: SshServers, place: Path
) -> None:
    both(project, servers, place)
    servers.stop("db-a")
    words = ["provision", "--target", "staging", "--yes", "--only", "note"]
    project.vmctl(*words, status=5)
    assert project.vmctl("history").out.rstrip().endswith("  unreachable")
    (project.root / "note.sh").write_text("exit 3\n")
    project.vmctl(*words, status=4)
    assert project.vmctl("history").out.rstrip().endswith("  failed, unreachable: db-a")


def test_into_servers(project: Project, servers: SshServers, place: Path) -> None:
    both(project, servers, place)
    ran = project.vmctl("ssh", "--target", "staging", "--json", "web-a", "-c", "echo $SERVER_NAME; exit 3", status=3)
    assert (ran.answer["stdout"], ran.answer["status"]) == ("web-a\n", 3)
    argv = ("sh", "-c", 'echo "$SERVER_NAME:$1"', "sh", "a  'b'")
    assert (
        project.vmctl("exec", "--target", "staging", "--json", "db-a", "--", *argv).answer["stdout"] == "db-a:a  'b'\n"
    )
    ran = project.vmctl("exec", "--target", "staging", "*", "--", *argv)
    assert sorted(ran.out.splitlines()) == ["db-a: db-a:a  'b'", "web-a: web-a:a  'b'"]
    assert "which server?" in project.vmctl("ssh", "--target", "staging", "-c", "true", status=2).err
    assert (
        "no server or group of staging matches 'web-b'"
        in project.vmctl("ssh", "--target", "staging", "web-b", "-c", "true", status=2).err
    )


def test_servers_are_no_machines(project: Project) -> None:
    write(project, "remotes: {staging: {hosts: {web-a: }}}\n")
    for name in ("halt", "destroy", "up"):
        for word in ("staging", "web-a"):
            ran = project.vmctl(name, word, status=2)
            assert f"'{word}' is a" in ran.err
            assert "vmctl provision --target staging" in ran.err
    assert "the Vmfile has servers (`remotes:`) and no machines" in project.vmctl("up", status=2).err
    assert "0 machines, servers of staging" in project.vmctl("validate").out
    for words in (["--limit", "x"], ["--yes"], ["--confirm", "x"]):
        assert f"{words[0]} is for servers" in project.vmctl("provision", *words, status=2).err
    assert "there is no target 'live'" in project.vmctl("provision", "--target", "live", status=2).err
    assert "--changed is for machines" in project.vmctl("provision", "--target", "staging", "--changed", status=2).err


def existing(project: Project, servers: SshServers, more: str = "") -> Path:
    """An inventory as Ansible's users have them."""
    way = f"ansible_user={servers.user}\nansible_ssh_private_key_file={servers.key}"
    args = f"ansible_ssh_common_args=-o UserKnownHostsFile={servers.known_hosts}"
    lines = [f"{name} ansible_host=127.0.0.1 ansible_port={port}" for name, port in servers.ports.items()]
    path = project.root / "inventory" / "hosts"
    path.parent.mkdir(exist_ok=True)
    text = f"[webservers]\n{lines[0]}\n[others]\n{lines[1]}\n[site:children]\nwebservers\nothers\n"
    path.write_text(f"{text}[all:vars]\n{way}\n{args}\ncolour=blue\n{more}")
    return path.parent


def test_an_existing_inventory_serves_as_it_is(project: Project, servers: SshServers, place: Path) -> None:
    both(project, servers, place)
    inventory = existing(project, servers)
    provision = (project.root / "Vmfile").read_text().partition("provision:")[2]
    write(project, f"remotes: {{staging: {{inventory: {inventory.name}}}}}\nprovision:{provision}")
    ran = project.vmctl("provision", "--target", "staging", "--yes", "--limit", "site,!others", "--json")
    assert list(ran.answer["provisioned"]["machines"]) == ["web-a"]
    assert (place / "web-a").read_text() == "blue"
    assert (place / "note").read_text() == "web-a a b it's\n"
    shim = project.vmctl("inventory", "--target", "staging", "--install", "--json").answer["file"]
    ours = project.vmctl("inventory", "--target", "staging").out
    agrees(json.loads(ours), read(Path(shim)))
    assert json.loads(ours)["others"]["hosts"] == ["db-a"]
    existing(project, servers, more="[others:vars]\nansible_ssh_extra_args=-o StrictHostKeyChecking=no\n")
    ran = project.vmctl("provision", "--target", "staging", "--yes", status=2)
    assert "turns host key checking off for db-a: ansible_ssh_extra_args" in ran.err
    existing(project, servers, more="[broken\n")
    ran = project.vmctl("provision", "--target", "staging", "--yes", status=2)
    assert "Ansible cannot read the inventory" in ran.err


def test_a_person_is_asked_and_a_wrong_name_changes_nothing(project: Project, servers: SshServers, place: Path) -> None:
    both(project, servers, place, more="    confirm: name\n")
    vmctl = str(Path(sys.executable).with_name("vmctl"))
    words = ["provision", "--target", "staging", "web-a", "--only", "note"]
    for answer, status in (("y", 130), ("staging", 0)):
        child = pexpect.spawn(vmctl, words, cwd=str(project.root), timeout=60, encoding="utf-8")
        child.expect_exact("Run note on web-a of staging? Type the target's name to go on")
        child.sendline(answer)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == status
        assert (place / "note").exists() == (status == 0)


def test_no_hypervisor_is_touched(project: Project, servers: SshServers, place: Path) -> None:
    both(project, servers, place)
    words = ["-C", str(project.root), "provision", "--target", "staging", "--yes", "--only", "note"]
    code = "import sys\nfrom vmctl.cli.running import run\nfrom vmctl.cli.root import cli\n"
    code += f"assert run(cli, {words!r}) == 0\n"
    code += "print([name for name in sys.modules if name.startswith(('libvirt', 'vmctl_', 'fake_guests'))])"
    done = process.run([sys.executable, "-c", code], env={"PYTHONPATH": os.environ["PYTHONPATH"]})
    assert done.stdout.splitlines()[-1] == "[]"
