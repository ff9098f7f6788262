"""`vmctl provision` against a bare ansible-playbook: the same play on the same ready guest."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Finding, Project, alternating

MOST_ADDED = 1.0  # seconds beyond 10 % of the bare run
SHARE = 0.10
VMFILE = """\
box: debian-12
provider: libvirt
synced_folders: []
provision: [{ansible: {playbook: site.yml, become: true}}]
"""
PLAY = """\
- hosts: all
  tasks:
    - ansible.builtin.file: {path: "/etc/bench-{{ item }}", state: touch, mode: "0644", access_time: preserve,
                             modification_time: preserve}
      loop: "{{ range(5) | list }}"
    - ansible.builtin.copy: {dest: /etc/motd, content: "measured", mode: "0644"}
    - ansible.builtin.command: systemctl is-system-running
      changed_when: false
      failed_when: false
"""
# What vmctl sets where nobody has said otherwise (docs/provisioning.md); without it the bare run would be slower.
FAIR = {
    "ANSIBLE_PIPELINING": "True",
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
    "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
}


def measure(place: Path, box_home: Path, *, rounds: int) -> Iterator[Finding]:
    """Provision one machine in turns, once that it is up and nothing changes any more."""
    root = place / "project"
    root.mkdir()
    (root / "Vmfile").write_text(VMFILE)
    (root / "site.yml").write_text(PLAY)
    project = Project(root, {"VMCTL_HOME": str(box_home), **FAIR})
    program = (Path(sys.executable).with_name("ansible-playbook"), "--become", "-i", ".vmctl/inventory", "site.yml")

    def bare() -> None:
        # Each run connects anew, as vmctl's does: in the usual directory it would find its last run's connection.
        with tempfile.TemporaryDirectory(prefix="cp-", dir="/tmp") as sockets:
            project.run("env", f"ANSIBLE_SSH_CONTROL_PATH_DIR={sockets}", *program)

    try:
        project.vmctl("up")
        ours, plain = alternating(lambda: project.vmctl("provision"), bare, times=rounds)
    finally:
        project.vmctl("destroy", "--yes")
    yield Finding(
        what="provision, more than ansible-playbook",
        value=ours - plain * (1 + SHARE),
        budget=MOST_ADDED,
        detail=f"{ours:.2f} s against {plain:.2f} s, of which 10 % are allowed",
    )
