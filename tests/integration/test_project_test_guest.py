"""`vmctl test` on real guests: a project is tested on machines of its own, beside the user's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.host.lxd import Lxd
from tests.integration.conftest import ProjectDirectory

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

PROJECT_PLAYBOOK = """\
- hosts: all
  become: true
  gather_facts: false
  tasks:
    - name: Install a page
      ansible.builtin.copy: {content: "hello\\n", dest: /srv/page, mode: "0644"}
    - name: Count runs
      ansible.builtin.shell: echo run >> /var/log/runs
      args: {creates: /var/log/runs}
"""
VERIFY = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: The page is there
      ansible.builtin.command: grep hello /srv/page
      changed_when: false
"""
PAGE = """\
#!/bin/sh
set -eu
test -s /srv/page
echo seen by $(id -un)
ip -4 -br addr | grep 192.168.56.20/24
! ping -c 1 -W 3 192.168.56.1  # the host is on the network of the user's machine, not on this one
"""
TESTS = """\
def test_it_was_restarted_once_and_provisioned_once(machines):
    machine = machines["default"]
    assert machine.run("cat /var/log/runs").stdout == "run\\n"
    assert machine.run("systemctl is-system-running --wait").stdout.strip() in ("running", "degraded")
    assert machine.run("cat /srv/boots").stdout == "boot\\n" * 2


def test_what_testinfra_sees(host):
    assert host.file("/srv/page").content_string == "hello\\n"
    assert host.service("ssh").is_running
    with host.sudo():
        assert host.user().name == "root"
"""


def test_a_project_is_tested_on_machines_of_its_own(
    containers: ProjectDirectory, lxd_server: Lxd, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = containers
    own_pytest = str(Path(sys.executable).parent)  # with testinfra; whoever runs the tests may have another one
    monkeypatch.setenv("PATH", os.pathsep.join([own_pytest, os.environ["PATH"]]))
    project.write("site.yml", PROJECT_PLAYBOOK)
    project.write("verify.yml", VERIFY)
    project.write("test_page.py", TESTS)
    project.write("page.sh", PAGE)
    project.write(
        "Vmfile",
        """\
box: debian-12
cpus: 1
memory: 384MiB
synced_folders: []
ports: ["18080:80"]
networks: [{name: lan, ip: 192.168.56.20}]
ready: [{command: 'echo boot | sudo tee -a /srv/boots'}]
provision: [{ansible: site.yml}]
test: {verify: [verify.yml, page.sh, test_page.py]}
""",
    )
    project.vmctl("up", "--no-provision")  # has the same port and addresses, and never notices
    ran = project.vmctl("test", "--json", "--junit", "result.xml").answer
    (suite,) = ran["suites"]
    phases = {phase["name"]: phase["result"] for phase in suite["phases"]}
    assert phases == dict.fromkeys(
        ["up", "idempotence", "reboot", "verify verify", "verify page", "verify test_page", "destroy"], "passed"
    )
    report = (project.root / "result.xml").read_text()
    assert 'tests="7" failures="0"' in report
    assert "default: seen by vmctl" in report
    assert len(lxd_server.instances()) == 1
    assert project.ssh("cat /srv/boots; ip -4 -br addr | grep -c 192.168.56.20/24; sudo ls /srv") == "boot\n1\nboots\n"
    assert not [entry for entry in (project.state / "test").iterdir() if entry.is_dir()]
