"""Inventories of Ansible as they are found: vaulted, in directories with all that collects there."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.harness import Project

ANSIBLE_VAULT = Path(sys.executable).with_name("ansible-vault")


def vaulted(project: Project) -> None:
    """An inventory whose address of the server is in a vault, and its password in a file."""
    variables = project.root / "inv" / "group_vars" / "all"
    variables.mkdir(parents=True)
    (project.root / "inv" / "hosts.yml").write_text("all: {hosts: {web: }}\n")
    (project.root / ".vault-pass").write_text("correct horse\n")
    (variables / "vault.yml").write_text("ansible_host: 192.0.2.7\n")
    argv: list[str | Path] = [ANSIBLE_VAULT, "encrypt", "--vault-password-file", ".vault-pass", variables / "vault.yml"]
    subprocess.run(argv, cwd=project.root, check=True, capture_output=True)


def write(project: Project, vault: str) -> None:
    (project.root / "site.yml").write_text("- {hosts: all, gather_facts: false, tasks: []}\n")
    entry = f"{{playbook: site.yml, vault: {vault}}}" if vault else "{playbook: site.yml}"
    (project.root / "Vmfile").write_text(f"remotes: {{lab: {{inventory: inv}}}}\nprovision: [{{ansible: {entry}}}]\n")


def address(project: Project) -> str:
    output = json.loads(project.vmctl("inventory", "--target", "lab").out)
    return str(output["_meta"]["hostvars"]["web"]["ansible_host"])


def test_a_vaulted_inventory_is_read_with_the_vaults_of_its_entries(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    vaulted(project)
    write(project, ".vault-pass")
    assert address(project) == "192.0.2.7"
    write(project, "{nobody: ./site.yml, team: .vault-pass}")
    assert address(project) == "192.0.2.7"
    write(project, "prompt")
    refused = project.vmctl("inventory", "--target", "lab", status=2)
    assert "asks for the password of the vault" in refused.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", lambda _question: "correct horse")
    assert address(project) == "192.0.2.7"
    write(project, "")
    refused = project.vmctl("inventory", "--target", "lab", status=2)
    assert "no vault secrets" in refused.err


def test_a_directory_is_read_as_ansible_reads_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    inventory = project.root / "inv"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "group_vars" / "fromyaml.yml").write_text("colour: grün\n")
    (inventory / "01-static.ini").write_text("[fromini]\na ansible_host=192.0.2.1\n")
    (inventory / "02-more.yml").write_text("fromyaml: {hosts: {b: {ansible_host: 192.0.2.2}}}\n")
    script = inventory / "03-script"
    script.write_text('#!/bin/sh\necho \'{"fromscript": {"hosts": ["c"]}, "_meta": {"hostvars": {}}}\'\n')
    script.chmod(0o755)
    (inventory / "04-constructed.yml").write_text(
        "plugin: ansible.builtin.constructed\nstrict: false\ngroups: {made: ansible_host is defined}\n"
    )
    for stray in (".hidden", "README.md", "hosts.yml~", "hosts.bak", ".02-more.yml.swp", "notes.txt"):
        (inventory / stray).write_text("[stray\n")
    write(project, "")
    output = project.vmctl("inventory", "--target", "lab", "--yaml").out
    assert "grün" in output
    assert all(name in output for name in ("fromini", "fromyaml", "fromscript", "made"))
    assert "stray" not in output
    (inventory / "05-broken.ini").write_text("[broken\n")
    ran = project.vmctl("exec", "--target", "lab", "nobody", "--", "true", status=2)
    assert "warning: the inventory of lab: " in ran.err
    assert "05-broken.ini" in ran.err
