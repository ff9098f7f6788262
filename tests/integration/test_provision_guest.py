"""A day in the life of a provisioned guest: one machine, visited by everything that provisioning promises."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.integration.conftest import ProjectDirectory
from vmctl import process
from vmctl.provision import settings
from vmctl.wait import Deadline, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

VMFILE = """\
box: debian-12
cpus: 1
vars: {motto: it works}
provision:
  - name: community
    ansible:
      playbook: community.yml
      become: true
      vault: password
      requirements: parts/requirements.yml
      env: {ANSIBLE_COLLECTIONS_PATH: %s}
  - name: motd
    file: {source: motd.j2, destination: /etc/motd, template: true, mode: "0644", owner: root}
    before: community
  - {name: nobody, shell: {inline: exit 1}, when: machine.name != 'default'}
  - {name: restart, reboot: true, run: never}
  - {name: inside, run: never, ansible: {playbook: inside.yml, mode: guest, become: true}}
"""
COMMUNITY = """\
- hosts: all
  roles: [ours]
  tasks:
    - ansible.posix.sysctl: {name: net.ipv4.ip_default_ttl, value: "77", sysctl_file: /etc/sysctl.d/vmctl.conf}
    - ansible.posix.authorized_key: {user: root, key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP1aX3T4 nobody"}
    - community.general.ini_file:
        {path: /etc/vmctl.ini, section: main, option: secret, value: "{{ secret }}", mode: "0600"}
    - community.general.sudoers: {name: deploy, user: daemon, commands: /bin/true, validation: absent}
    - community.general.alternatives: {name: editor, path: /bin/true, link: /usr/bin/editor, priority: 1}
"""
INSIDE = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: note
      ansible.builtin.copy: {dest: /etc/inside, content: "{{ inventory_hostname }}", mode: "0644"}
"""
LONG = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: sit
      ansible.builtin.shell: "touch /tmp/begun; for i in $(seq 600); do test -e /tmp/go && exit; sleep 0.5; done"
"""
ADDED = "  - {name: long, ansible: long.yml}\n"


def of_a_run() -> list[str]:
    """Command lines of processes that a run has started on the host."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"VMCTL_RUN=" in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def stop_in_the_middle(project: ProjectDirectory, number: signal.Signals) -> int:
    """Have `vmctl up` get a signal while its play sits in a task; its exit status."""
    child = project.start("up")
    until(lambda: project.ssh("test -e /tmp/begun && echo yes || true") == "yes\n", Deadline.after(240), "the task")
    child.send_signal(number)
    child.communicate(timeout=60)
    project.ssh("rm -f /tmp/begun")
    return child.returncode


def fill(project: ProjectDirectory, collections: Path) -> None:
    """Write the project's files."""
    project.write("Vmfile", VMFILE % collections)
    project.write("community.yml", COMMUNITY)
    project.write("inside.yml", INSIDE)
    project.write("long.yml", LONG)
    project.write("motd.j2", "{{ vars.motto }} on {{ machine.name }}\n")
    project.write("parts/requirements.yml", "roles: [{src: ./role, name: ours}]\n")
    project.write("parts/role/tasks/main.yml", '- copy: {dest: /etc/ours, content: "role", mode: "0644"}\n')
    password = project.write("password", "correct-horse\n")
    argv = [settings.program("ansible-vault"), "encrypt", f"--vault-id=default@{password}", "--output=-"]
    project.write("group_vars/all.yml", process.run(argv, input="secret: battery-staple\n").stdout)


@pytest.fixture(scope="class")
def filled(container_day: ProjectDirectory, community_collections: Path) -> ProjectDirectory:
    fill(container_day, community_collections)
    return container_day


class TestADayInTheLifeOfAProvisionedGuest:
    """One machine, from its first `up` to a play that is stopped and a guest that is not reached."""

    @pytest.fixture
    def project(self, filled: ProjectDirectory) -> ProjectDirectory:
        return filled

    def test_up_runs_what_is_due_in_its_order(self, project: ProjectDirectory) -> None:
        result = project.vmctl("up", "--json").answer["provisioned"]["machines"]["default"]
        assert result["ran"] == ["motd", "community"]
        assert result["changed"] >= 6
        assert project.ssh(
            "cat /etc/motd; sudo cat /etc/vmctl.ini /etc/ours; cat /proc/sys/net/ipv4/ip_default_ttl"
        ) == ("it works on default\n\n[main]\nsecret = battery-staple\nrole77\n")
        assert project.vmctl("up", "--json").answer["changed"] is False

    def test_a_second_run_changes_nothing(self, project: ProjectDirectory) -> None:
        assert project.vmctl("provision", "--json").answer["changed"] is False

    def test_a_check_tells_what_would_change_and_changes_nothing(self, project: ProjectDirectory) -> None:
        project.ssh("sudo rm /etc/sysctl.d/vmctl.conf")
        checked = project.vmctl("provision", "--check", "--diff", "--from", "community", "--json").answer
        assert [task.split(" (")[0] for task in checked["provisioned"]["machines"]["default"]["changed_tasks"]] == [
            "ansible.posix.sysctl"
        ]
        assert project.ssh("test -e /etc/sysctl.d/vmctl.conf || echo absent") == "absent\n"

    def test_a_restart_by_a_provisioner_is_waited_for(self, project: ProjectDirectory) -> None:
        before = project.ssh("cat /proc/sys/kernel/random/boot_id")
        project.vmctl("provision", "--only", "restart")
        after, _, shared = project.ssh("cat /proc/sys/kernel/random/boot_id /project/inside.yml").partition("\n")
        assert f"{after}\n" != before
        assert shared == INSIDE
        assert "nothing to do" in project.vmctl("up").out

    def test_a_playbook_runs_inside_the_guest(self, project: ProjectDirectory) -> None:
        (project.root / "group_vars" / "all.yml").unlink()  # what vmctl brings along opens no vaults
        inside = project.vmctl("provision", "--only", "inside", "--json").answer
        assert inside["provisioned"]["machines"]["default"]["changed"] == 1
        assert project.ssh("cat /etc/inside") == "default"

    def test_a_play_that_is_stopped_goes_on_at_the_next_up(self, project: ProjectDirectory) -> None:
        project.write(
            "Vmfile", "box: debian-12\ncpus: 1\nprovision:\n  - {name: first, shell: {inline: 'true'}}\n" + ADDED
        )
        assert stop_in_the_middle(project, signal.SIGKILL) == -signal.SIGKILL
        assert any("ansible-playbook" in command for command in of_a_run())
        assert stop_in_the_middle(project, signal.SIGINT) == 128 + signal.SIGINT
        assert of_a_run() == []
        project.ssh("touch /tmp/go")
        answer = project.vmctl("up", "--json").answer
        assert answer["provisioned"]["machines"]["default"]["ran"] == ["long"]
        assert list((project.state / "runner").glob("*/*")) == []

    def test_a_guest_that_is_not_reached_any_more_is_told_as_such(self, project: ProjectDirectory) -> None:
        project.write("long.yml", LONG.replace("name: sit", "name: sit still"))
        project.ssh("sudo systemctl stop ssh.service")  # this session goes on, the next one finds nobody
        ran = project.vmctl("up", "--json", status=5)
        assert ran.answer["provisioned"]["machines"]["default"]["status"] == "unreachable"
        assert {path.name for path in (project.state / "runner").iterdir()} == {"lock", "lock.holder"}
