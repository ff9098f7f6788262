"""Plays that run nowhere, or not to their end: real Ansible on real servers; what did not run never counts as done."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.harness import Project
from tests.cli.ssh_servers import SshServers

TOUCH = "    - {{ansible.builtin.file: {{path: '{place}/{name}-{{{{ inventory_hostname }}}}', state: touch}}}}\n"


pytestmark = pytest.mark.usefixtures("ansible_python")


def play(place: Path, name: str, hosts: str = "all", more: str = "", before: str = "") -> str:
    head = f"- name: {name}\n  hosts: {hosts}\n  gather_facts: false\n{more}  tasks:\n{before}"
    return head + TOUCH.format(place=place, name=name)


def adding(servers: SshServers) -> str:
    """A task that adds the server db-a under another name."""
    return (
        "    - ansible.builtin.add_host:\n        name: fresh\n        groups: just_made\n"
        f"        ansible_host: 127.0.0.1\n        ansible_port: {servers.ports['db-a']}\n"
        f"        ansible_user: {servers.user}\n        ansible_ssh_private_key_file: {servers.key}\n"
        f"        ansible_ssh_common_args: -o UserKnownHostsFile={servers.known_hosts}\n"
    )


def write(
    project: Project, servers: SshServers, plays: str, entry: str = "playbook: site.yml", target: str = ""
) -> None:
    (project.root / "site.yml").write_text(plays)
    text = f"remotes:\n{target or servers.target()}provision:\n  - ansible: {{{entry}}}\n"
    (project.root / "Vmfile").write_text(text)


def ran(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_a_play_for_added_hosts_runs_and_other_servers_are_left_alone(
    project: Project, servers: SshServers, place: Path
) -> None:
    plays = play(place, "first", before=adding(servers)) + play(place, "second", "just_made") + play(place, "third")
    write(project, servers, plays)
    project.vmctl("provision", "--target", "staging", "--yes", "web-a")
    assert ran(place) == ["first-web-a", "second-fresh", "third-fresh", "third-web-a"]
    write(project, servers, plays + play(place, "fourth", "localhost", "  connection: local\n"))
    project.vmctl("provision", "--target", "staging", "--yes")
    assert {"first-db-a", "third-db-a", "fourth-localhost"} <= set(ran(place))


def test_a_play_for_added_hosts_that_cannot_run_is_a_failure(
    project: Project, servers: SshServers, place: Path
) -> None:
    way = f"ansible_user={servers.user} ansible_ssh_private_key_file={servers.key}"
    args = f"ansible_ssh_common_args='-o UserKnownHostsFile={servers.known_hosts}'"
    line = f"web-a ansible_host=127.0.0.1 ansible_port={servers.ports['web-a']} {way} {args}\n"
    (project.root / "hosts").write_text(line)
    plays = play(place, "first", before=adding(servers)) + play(place, "second", "just_made")
    write(project, servers, plays, target="  staging: {inventory: hosts}\n")
    ended = project.vmctl("provision", "--target", "staging", "--yes", status=4)
    assert "no play ran on fresh, which the playbook added (add_host)" in ended.err
    assert "'second' (hosts: just_made)" in ended.err
    assert ran(place) == ["first-web-a"]


@pytest.mark.parametrize("how", ["any_errors_fatal: true", "max_fail_percentage: 10", "serial: 1"])
def test_where_ansible_gives_up_nobody_is_done(project: Project, servers: SshServers, place: Path, how: str) -> None:
    fail = "    - {ansible.builtin.command: 'test {{ inventory_hostname }} != db-a', changed_when: false}\n"
    write(project, servers, play(place, "first", more=f"  {how}\n", before=fail) + play(place, "second"))
    ended = project.vmctl("provision", "--target", "staging", "--yes", "--json", status=4)
    rows = ended.answer["provisioned"]["machines"]
    assert {name: (row["status"], row["ran"]) for name, row in rows.items()} == {
        "web-a": ("failed", []), "db-a": ("failed", []),
    }  # fmt: skip
    assert "did not finish" in rows["web-a"]["failure"]["brief"]
    assert not any(name.startswith("second") for name in ran(place))


def test_what_ran_nowhere_is_told(project: Project, servers: SshServers, place: Path) -> None:
    write(project, servers, play(place, "first") + play(place, "second", "webservres"))
    shown = project.vmctl("provision", "--target", "staging", "--yes").err
    assert "warning: the play 'second' (hosts: webservres) of site.yml ran nowhere: it matches" in shown
    write(project, servers, play(place, "first"), "playbook: site.yml, tags: [deplyo]")
    assert "web-a: site.yml ran no task on it" in project.vmctl("provision", "--target", "staging", "--yes").err
    write(project, servers, play(place, "first"), "playbook: site.yml, start_at_task: nope")
    ended = project.vmctl("provision", "--target", "staging", "--yes", status=4)
    assert 'No matching task "nope" found' in ended.err


def test_drift_tells_its_verdicts_also_where_machines_were_not_looked_at(project: Project) -> None:
    (project.root / "bad.yml").write_text(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - {ansible.builtin.fail: , check_mode: false}\n"
    )
    project.vmfile("machines: {web: {depends_on: {db: provisioned}}, db: {}}\n")
    project.vmctl("up")
    project.vmfile("machines: {web: {depends_on: {db: provisioned}}, db: {}}\nprovision: [{ansible: bad.yml}]\n")
    shown = project.vmctl("drift", "--json", status=4).answer["drift"]
    assert {name: row["verdict"] for name, row in shown.items()} == {"db": "failed", "web": "not attempted"}


def test_inside_a_guest_plays_are_for_that_machine_and_for_what_it_adds(project: Project, place: Path) -> None:
    host = "{name: 'fresh-{{ inventory_hostname }}', groups: made, ansible_connection: local}"
    add = f"    - ansible.builtin.add_host: {host}\n"
    (project.root / "site.yml").write_text(play(place, "first", before=add) + play(place, "second", "made"))
    program = Path(sys.executable).with_name("ansible-playbook")
    entry = f"{{playbook: site.yml, mode: guest, playbook_command: {program}, python_interpreter: {sys.executable}}}"
    project.vmfile(f"machines: {{web: {{}}, db: {{}}}}\nprovision: [{{ansible: {entry}}}]\n")
    project.vmctl("up")
    assert ran(place) == ["first-db", "first-web", "second-fresh-db", "second-fresh-web"]
    fail = "    - {ansible.builtin.command: 'false', any_errors_fatal: true}\n"
    (project.root / "site.yml").write_text(play(place, "first", before=fail) + play(place, "third", "nobody"))
    ended = project.vmctl("provision", "web", "--json", status=4)
    assert ended.answer["provisioned"]["machines"]["web"]["failure"]["task"] == "ansible.builtin.command"
