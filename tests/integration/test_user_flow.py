"""What a user does, on real guests through real libvirt: one long session per mode, then what goes wrong.

Boots cost half a minute each where guests are emulated, so each session visits many promises on one machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.integration.conftest import ProjectDirectory, domains, volumes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

HELLO = Path(__file__).parents[2] / "examples" / "hello"

PLAYBOOK = """\
- hosts: all
  become: true
  gather_facts: false
  tasks:
    - name: Change something
      ansible.builtin.copy: {content: "configured\\n", dest: /etc/configured, mode: "0644"}
    - name: Change nothing
      ansible.builtin.command: "true"
      changed_when: false
"""

BROKEN_PLAYBOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: Break on purpose
      ansible.builtin.command: "false"
"""


def fetch(url: str) -> str:
    """A page, as text."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def nothing_is_left(project: ProjectDirectory, uri: str) -> None:
    """No domain, volume, port lease, key or process of the project."""
    name = project.root.name
    assert not [domain for domain in domains(uri) if name[:20].replace("_", "-") in domain]
    assert not [volume for volume in volumes(uri) if name[:20].replace("_", "-") in volume]
    leases = json.loads((Path(project.environment["VMCTL_HOME"]) / "ports.json").read_text())
    assert not [lease for lease in leases if lease["owner"]["root"] == str(project.root)]
    assert list((project.root / ".vmctl" / "machines").iterdir()) == []
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert not [line for line in listed.splitlines() if str(project.root) in line and "pytest" not in line]


def test_a_day_in_system_mode(project: ProjectDirectory) -> None:
    shutil.copytree(HELLO, project.root, dirs_exist_ok=True)
    project.write("playbook2.yml", PLAYBOOK)
    vmfile = (project.root / "Vmfile").read_text()
    vmfile = vmfile.replace("provision:\n", "disk: 12GiB\nprovision:\n  - ansible: playbook2.yml\n")
    project.write("Vmfile", vmfile)

    ran = project.vmctl("--set", "port=auto", "up", "--json").answer
    assert ran["machines"][0]["state"] == "running"
    counts = ran["provisioned"]["machines"]["default"]
    assert counts["changed"] >= 2
    assert counts["failed"] == counts["unreachable"] == 0

    # Every later command says the same variable, as a user with a busy port would put it into the Vmfile.
    project.write("Vmfile", vmfile.replace("port: 8080", "port: auto"))
    again = project.vmctl("up")
    assert again.out.startswith("default is up; nothing to do")
    assert project.states() == {"default": "running"}

    # the provisioned service, and the folder live in both directions
    port = int(project.vmctl("port", "--guest", "80").out)
    url = f"http://127.0.0.1:{port}/"
    index = project.root / "site" / "index.html"
    assert fetch(url) == index.read_text()
    index.write_text("<p>edited on the host</p>")
    assert fetch(url) == "<p>edited on the host</p>"
    project.ssh("echo from the guest > /project/from-guest")
    assert (project.root / "from-guest").read_text() == "from the guest\n"
    assert (project.root / "from-guest").stat().st_uid == project.root.stat().st_uid
    assert "virtiofs" in project.ssh("findmnt -no FSTYPE /project")

    # the guest is what the Vmfile says
    assert project.ssh("id -un; hostname; nproc").split() == ["vmctl", "default", "2"]
    assert int(project.ssh("df --output=size -B1 / | tail -1")) > 11 * 1024**3
    assert project.ssh("cat /etc/configured") == "configured\n"
    project.ssh("exit 7", status=7)
    assert project.vmctl("exec", "default", "--", "printf", "%s|", "a b", "it's", "").out == "a b|it's||"

    # OpenSSH by itself, strict from the first connection
    config = project.root / "ssh_config"
    config.write_text(project.vmctl("ssh-config").out)
    argv = ["ssh", "-F", str(config), "default", "cat", "/etc/hostname"]
    assert (
        subprocess.run(argv, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout == "default\n"
    )
    known = project.root / ".vmctl" / "machines" / "default" / "known_hosts"
    assert len(known.read_text().splitlines()) == 1

    # a file goes in
    project.write("upload me", "content")
    project.vmctl("upload", "upload me", "/tmp/uploaded here")
    assert project.ssh("cat '/tmp/uploaded here'") == "content"

    # a provisioner that fails is not recorded, and is tried again
    project.write("broken.yml", BROKEN_PLAYBOOK)
    broken = vmfile.replace("port: 8080", "port: auto").replace("playbook: playbook.yml", "playbook: broken.yml")
    project.write("Vmfile", broken)
    failed = project.vmctl("up", status=4)
    assert "Break on purpose" in failed.err
    project.vmctl("up", status=4)
    project.write("broken.yml", BROKEN_PLAYBOOK.replace('"false"', '"true"'))
    project.vmctl("up")
    assert project.vmctl("up").out.startswith("default is up; nothing to do")

    # off and on: the folder and the service come back
    project.vmctl("halt")
    assert project.states() == {"default": "stopped"}
    project.vmctl("ssh", "-c", "true", status=3)
    project.vmctl("up")
    assert fetch(url) == "<p>edited on the host</p>"

    # asleep and awake
    project.ssh("echo kept > /dev/shm/memory")
    project.vmctl("suspend")
    assert project.states()["default"] in ("saved", "paused")
    project.vmctl("resume")
    assert project.ssh("cat /dev/shm/memory") == "kept\n"
    assert abs(int(project.ssh("date +%s")) - time.time()) < 10
    assert fetch(url) == "<p>edited on the host</p>"

    # a change of the hardware is told, and applied by reload; the port stays
    project.write("Vmfile", broken.replace("memory: 512MiB", "memory: 768MiB").replace("disk: 12GiB", "disk: 13GiB"))
    assert "`vmctl reload default` applies it" in project.vmctl("up").err
    project.vmctl("reload")
    assert int(project.ssh("awk '/MemTotal/ {print $2}' /proc/meminfo")) > 600 * 1024
    assert int(project.ssh("df --output=size -B1 / | tail -1")) > 12 * 1024**3
    assert int(project.vmctl("port", "--guest", "80").out) == port

    assert "Cloud-init v." in project.vmctl("logs").out
    project.vmctl("destroy", "--yes")
    nothing_is_left(project, "qemu:///system")
    assert index.exists()


def test_a_day_in_session_mode(user_project: ProjectDirectory) -> None:
    project = user_project
    project.write("playbook.yml", PLAYBOOK)
    project.write("src/page", "one")
    project.write(
        "Vmfile",
        """\
box: debian-12
memory: 512MiB
networks: [{name: backend}]
machines:
  web: {ports: ["auto:80", "auto:53/udp"], depends_on: [db]}
  db: {hostname: store}
provision:
  - name: greet
    shell: {inline: 'echo "$1 $NAME" > /etc/greeting', args: ["it's"], env: {NAME: "a \\"b\\" c"}}
  - ansible: {playbook: playbook.yml, groups: {stores: [db]}}
""",
    )
    ran = project.vmctl("up", "--json")
    assert {row["name"]: row["state"] for row in ran.answer["machines"]} == {"web": "running", "db": "running"}
    started = [
        row["machine"] for row in ran.objects() if (row.get("event"), row.get("step")) == ("step-started", "start")
    ]
    assert started == ["db", "web"]
    assert project.vmctl("up").out.startswith("web, db are up; nothing to do")

    assert project.ssh("cat /etc/greeting /etc/configured", "web") == 'it\'s a "b" c\nconfigured\n'
    assert project.ssh("hostname", "db") == "store\n"

    # machine to machine, on the private network
    config = project.vmctl("config", "--json").answer
    address = config["machines"]["db"]["networks"][0]["ip"]
    assert project.ssh(f"ping -c 1 -W 20 {address} >/dev/null && echo reached", "web") == "reached\n"

    # rsync folders: sent on up and by sync; what the guest made stays
    assert project.ssh("cat /project/src/page", "web") == "one"
    project.ssh("echo mine > /project/src/guest-made", "web")
    project.write("src/page", "two")
    project.vmctl("sync")
    assert project.ssh("cat /project/src/page /project/src/guest-made", "web") == "twomine\n"

    # memory on disk
    project.ssh("echo kept > /dev/shm/memory", "web")
    project.vmctl("suspend", "web")
    assert project.states() == {"web": "saved", "db": "running"}
    project.vmctl("up", "web")
    assert project.ssh("cat /dev/shm/memory", "web") == "kept\n"

    # both kept at once, with their memory; one goes back, the other stays as it is
    assert project.vmctl("snapshot", "save", "both fine").out.count("saved 'both fine'; running") == 2
    assert project.vmctl("up").out.startswith("web, db are up; nothing to do")
    for machine in ("web", "db"):
        project.ssh("echo changed | sudo tee /etc/greeting > /dev/shm/memory && sync", machine)
    project.vmctl("snapshot", "restore", "both fine", "web")
    assert project.ssh("cat /dev/shm/memory /etc/greeting", "web") == 'kept\nit\'s a "b" c\n'
    assert abs(int(project.ssh("date +%s", "web")) - time.time()) < 10
    assert project.ssh("cat /etc/greeting", "db") == "changed\n"
    assert project.vmctl("up").out.startswith("web, db are up; nothing to do")
    kept = project.vmctl("snapshot", "list", "--json").answer["machines"]
    assert {name: [(row["name"], row["memory"]) for row in rows] for name, rows in kept.items()} == {
        "web": [("both fine", True)],
        "db": [("both fine", True)],
    }
    project.vmctl("snapshot", "delete", "both fine", "db")

    project.vmctl("halt", "db", "--force")
    assert project.states() == {"web": "running", "db": "stopped"}
    project.vmctl("up", "db", "--no-provision")
    assert project.ssh("cat /etc/greeting", "db") == "changed\n"
    project.vmctl("destroy", "--yes")
    nothing_is_left(project, "qemu:///session")


def test_a_guest_without_sshd_is_diagnosed_before_the_deadline(project: ProjectDirectory) -> None:
    project.write("Vmfile", "box: debian-12\nmemory: 512MiB\nsynced_folders: []\nboot_timeout: 600\n")
    project.vmctl("up")
    project.ssh("sudo systemctl mask ssh.service ssh.socket")
    project.vmctl("halt")
    started = time.monotonic()
    ran = project.vmctl("up", status=5)
    assert time.monotonic() - started < 300
    assert "login:" in ran.err
    assert "vmctl logs default" in ran.err
    assert project.states() == {"default": "running"}


@pytest.mark.parametrize("step", ["create", "start", "await_ssh"])
def test_kill_9_during_up_then_up_again_finishes(project: ProjectDirectory, step: str) -> None:
    project.write("Vmfile", "box: debian-12\nmemory: 512MiB\n")
    child = project.start("up", "--json")
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line).get("step") == step:
            break
    os.kill(child.pid, signal.SIGKILL)
    if step == "start":
        project.vmctl("destroy", "--yes")
        nothing_is_left(project, "qemu:///system")
        return
    project.vmctl("up")
    project.vmctl("halt", "--force")  # a power cut right after the first boot
    project.vmctl("up")
    assert project.ssh("echo in") == "in\n"
    project.vmctl("destroy", "--yes")
    nothing_is_left(project, "qemu:///system")


def test_ctrl_c_during_boot_ends_quickly_and_up_goes_on(project: ProjectDirectory) -> None:
    project.write("Vmfile", "box: debian-12\nmemory: 512MiB\nsynced_folders: []\n")
    child = project.start("up", "--json")
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line).get("step") == "await_ssh":
            break
    sent = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert time.monotonic() - sent < 5
    assert child.returncode == 130
    assert project.states() == {"default": "running"}
    project.vmctl("up")
    assert project.ssh("echo in") == "in\n"
