"""What is around a command and bends its children: hooks, locales, files from Windows; real servers and Ansible."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.harness import Project
from tests.cli.ssh_servers import SshServers

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


def git(directory: Path, *words: str) -> str:
    done = subprocess.run([*GIT, "-C", str(directory), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_in_a_hook_of_another_repository_everything_is_about_the_projects(
    project: Project, servers: SshServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    out = tmp_path / "out"
    (project.root / "site.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  connection: local\n  tasks:\n"
        f"    - ansible.builtin.shell: git rev-parse HEAD >>{out}\n"
    )
    (project.root / "Vmfile").write_text(
        f"remotes:\n{servers.target()}provision:\n"
        f"  - shell: {{on: host, inline: 'git rev-parse HEAD >>{out}'}}\n  - ansible: {{playbook: site.yml}}\n"
    )
    for place in (project.root, other):
        place.mkdir(exist_ok=True)
        git(place, "init", "-q")
        git(place, "add", ".")
        git(place, "commit", "-q", "--allow-empty", "-m", "one")
    (project.root / ".git" / "info" / "exclude").write_text(".vmctl\n")
    own = git(project.root, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    monkeypatch.setenv("GIT_PREFIX", "sub/")
    monkeypatch.setenv("ANSIBLE_PYTHON_INTERPRETER", sys.executable)
    monkeypatch.setenv("LC_ALL", "POSIX")
    project.vmctl("provision", "--target", "staging", "--yes", "web-a")
    (run,) = project.vmctl("history", "--json").answer["runs"]
    assert (run["commit"], run["dirty"]) == (own, False)
    assert out.read_text().splitlines() == [own, own]


def test_scripts_from_windows_run_as_meant_wherever_they_run(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("guest.sh", "host.sh", "trigger.sh"):
        text = f'#!/bin/sh\r\nset -e\r\nif true; then\r\n  echo "{name} $VMCTL_MACHINE" >>{out}\r\nfi\r\n'
        (project.root / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    project.vmfile(
        "provision:\n  - shell: {script: guest.sh, become: false}\n  - shell: {script: host.sh, on: host}\n"
        "triggers:\n  - {after: provision, run: trigger.sh}\n  - {after: provision, run: trigger.sh, on: guest}\n"
    )
    project.vmctl("up")
    assert out.read_text() == "guest.sh default\nhost.sh default\ntrigger.sh default\ntrigger.sh default\n"


def test_an_uploaded_directory_arrives_without_what_cannot_be_copied(project: Project, tmp_path: Path) -> None:
    conf, there = tmp_path / "conf", tmp_path / "there"
    (conf / "sub" / "empty").mkdir(parents=True)
    there.mkdir()
    (conf / "sub" / "job").write_text("two")
    (conf / "sub" / "job").chmod(0o750)
    os.utime(conf / "sub" / "job", (1_000_000_000, 1_000_000_000))
    (conf / ".#app.conf").symlink_to("me@host.1234:5")
    os.mkfifo(conf / "pipe")
    project.vmfile("")
    project.vmctl("up")
    output = project.vmctl("upload", str(conf), str(there)).err
    assert f"warning: {conf / '.#app.conf'} is left out: a link that leads nowhere" in output
    assert sorted(str(path.relative_to(there)) for path in there.rglob("*")) == [
        "conf", "conf/sub", "conf/sub/empty", "conf/sub/job",
    ]  # fmt: skip
    arrived = (there / "conf" / "sub" / "job").stat()
    assert (arrived.st_mode & 0o777, arrived.st_mtime) == (0o750, 1_000_000_000)
    assert "is neither a file nor a directory" in project.vmctl("upload", str(conf / "pipe"), status=1).err
