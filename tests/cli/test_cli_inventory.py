"""`vmctl inventory` of machines: available before anything is provisioned, and the same through Ansible's own eyes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.harness import Project
from tests.unit.test_provision_inventory_formats import agrees, read

VMFILE = """\
boot_timeout: 60
machines:
  web: {count: 2}
  db: {}
provision:
  - name: site
    run: never
    ansible: {playbook: site.yml, groups: {webservers: [web], dbservers: [db]}}
"""
PLAYBOOK = """\
- hosts: webservers
  gather_facts: false
  tasks:
    - ansible.builtin.command: "true"
"""


def test_the_shim_agrees_halted_machines_included(project: Project) -> None:
    (project.root / "site.yml").write_text(PLAYBOOK)
    project.vmfile(VMFILE)
    assert project.vmctl("inventory", "--json").answer["_meta"] == {"hostvars": {}}
    assert not (project.root / ".vmctl").exists()
    project.vmctl("up")
    project.vmctl("halt", "db")
    shim = Path(project.vmctl("inventory", "--install", "--json").answer["file"])
    ours = json.loads(project.vmctl("inventory", "--list").out)
    assert sorted(ours["_meta"]["hostvars"]) == ["db", "web-1", "web-2"]
    assert ours["webservers"]["hosts"] == ["web-1", "web-2"]
    agrees(ours, read(shim))
    for form in ("yaml", "ini"):
        path = project.root / f"hosts.{form}"
        path.write_text(project.vmctl("inventory", f"--{form}").out)
        agrees(ours, read(path))
    host = project.vmctl("inventory", "--host", "web-2", "--json").answer
    assert host["ansible_port"] == ours["_meta"]["hostvars"]["web-2"]["ansible_port"]
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, "-i", shim, "site.yml", "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=project.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "web-2                      : ok=1" in done.stdout
    assert "there is no host 'web'" in project.vmctl("inventory", "--host", "web", status=2).err
    assert "exclude each other" in project.vmctl("inventory", "--yaml", "--ini", status=2).err
    assert "--output says where" in project.vmctl("inventory", "--output", "x", status=2).err
    assert "not of vmctl's making" in project.vmctl("inventory", "--install", "--output", "site.yml", status=2).err


def test_runs_on_machines_are_in_the_history(project: Project) -> None:
    project.vmfile("")
    assert "nothing has been provisioned yet" in project.vmctl("history").out
    project.vmfile("provision: [{shell: {inline: 'true', become: false}, name: note}]\n")
    project.vmctl("up")
    project.vmctl("up")
    project.vmctl("provision", "--only", "note")
    runs = project.vmctl("history", "--json").answer["runs"]
    assert [(run["target"], run["hosts"], run["provisioners"], run["result"]) for run in runs] == [
        (None, ["default"], ["note"], "done")
    ] * 2
    assert project.vmctl("history", "--target", "staging", "--json").answer == {"runs": []}
    assert project.vmctl("drift", "--json").answer["drift"] == {
        "default": {"verdict": "in sync", "changed_tasks": [], "not_checked": ["note"]}
    }
