"""A real guest in two roles: a machine of one project, and to another project a server that vmctl did not make."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ProjectDirectory

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

MACHINE = """\
box: debian-12
cpus: 1
memory: 512MiB
synced_folders: []
provision:
  - name: site
    ansible: {playbook: site.yml, groups: {webservers: [default]}, become: true}
"""
PLAYBOOK = """\
- hosts: webservers
  tasks:
    - name: have a greeting
      ansible.builtin.copy: {dest: /etc/greeting, content: "{{ greeting | default('hello') }}\\n", mode: "0644"}
"""
SERVER = """\
remotes:
  staging:
    hosts:
      guest: {{address: {host}, port: {port}, user: {user}, key: "{key}", groups: [webservers]}}
    known_hosts: known_hosts
    vars: {{greeting: good day}}
provision:
  - ansible: {{playbook: site.yml, become: true}}
  - shell: {{inline: 'id -u > /root/who; echo "$1" >> /root/who', args: ["it's me"]}}
    name: who
"""


def test_the_same_playbook_on_a_machine_and_on_a_server(containers: ProjectDirectory, tmp_path: Path) -> None:
    project = containers
    project.write("Vmfile", MACHINE)
    project.write("site.yml", PLAYBOOK)
    project.vmctl("up")
    shim = project.vmctl("inventory", "--install", "--json").answer["file"]
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", shim, "-b", "site.yml"]
    done = subprocess.run(
        argv, cwd=project.root, env={**os.environ, **project.environment}, capture_output=True, text=True, check=False
    )
    assert "changed=0" in done.stdout, done.stdout + done.stderr
    assert project.vmctl("drift", "--json").answer["drift"]["default"]["verdict"] == "in sync"
    project.ssh("echo somebody was here | sudo tee /etc/greeting")
    drifted = project.vmctl("drift", status=1).out
    assert "default  drifted" in drifted
    assert "would change: have a greeting" in drifted
    _serve(project, tmp_path)
    assert project.ssh("cat /etc/greeting; sudo cat /root/who").splitlines() == ["good day", "0", "it's me"]


def _serve(project: ProjectDirectory, tmp_path: Path) -> None:
    """Provision the guest from another project, which knows it as a server alone."""
    way = project.vmctl("ssh-config", "--json").answer["machines"]["default"]
    other = ProjectDirectory(tmp_path, {"VMCTL_HOME": str(tmp_path / "home")})
    kind, key = Path(way["known_hosts"]).read_text().split()[1:3]
    other.write("known_hosts", f"[{way['host']}]:{way['port']} {kind} {key}\n")
    other.write("Vmfile", SERVER.format(**way))
    other.write("site.yml", PLAYBOOK)
    other.vmctl("provision", "--target", "staging", "--yes")
    assert "guest  in sync" in other.vmctl("drift", "--target", "staging", "--only", "site").out
    assert other.vmctl("ssh", "--target", "staging", "guest", "-c", "id -un").out.strip() == way["user"]
