"""A provisioned guest: content of the community, a vault, a role from requirements, a filled-in template."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import ProjectDirectory
from vmctl import process
from vmctl.provision import settings

pytestmark = pytest.mark.integration

VMFILE = """\
box: debian-12
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
"""
COMMUNITY = """\
- hosts: all
  roles: [ours]
  tasks:
    - ansible.posix.sysctl: {name: vm.swappiness, value: "7", sysctl_file: /etc/sysctl.d/vmctl.conf}
    - ansible.posix.authorized_key: {user: root, key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP1aX3T4 nobody"}
    - community.general.ini_file:
        {path: /etc/vmctl.ini, section: main, option: secret, value: "{{ secret }}", mode: "0600"}
    - community.general.sudoers: {name: deploy, user: daemon, commands: /bin/true, validation: absent}
    - community.general.alternatives: {name: editor, path: /bin/true, link: /usr/bin/editor, priority: 1}
"""


def fill(project: ProjectDirectory, collections: Path) -> None:
    """Write the project's files."""
    project.write("Vmfile", VMFILE % collections)
    project.write("community.yml", COMMUNITY)
    project.write("motd.j2", "{{ vars.motto }} on {{ machine.name }}\n")
    project.write("parts/requirements.yml", "roles: [{src: ./role, name: ours}]\n")
    project.write("parts/role/tasks/main.yml", '- copy: {dest: /etc/ours, content: "role", mode: "0644"}\n')
    password = project.write("password", "correct-horse\n")
    argv = [settings.program("ansible-vault"), "encrypt", f"--vault-id=default@{password}", "--output=-"]
    project.write("group_vars/all.yml", process.run(argv, input="secret: battery-staple\n").stdout)


def test_a_guest_gets_what_people_use(project: ProjectDirectory, community_collections: Path) -> None:
    fill(project, community_collections)
    result = project.vmctl("up", "--json").answer["provisioned"]["machines"]["default"]
    assert result["ran"] == ["motd", "community"]
    assert result["changed"] >= 6
    assert project.ssh("cat /etc/motd; sudo cat /etc/vmctl.ini /etc/ours; cat /proc/sys/vm/swappiness") == (
        "it works on default\n[main]\nsecret = battery-staple\nrole7\n"
    )
    assert project.vmctl("up", "--json").answer["changed"] is False
