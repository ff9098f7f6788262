"""What a user does with VirtualBox, by the command line, with real guests; QEMU stands in for its kernel module."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.virtualbox.install import Installation, installed
from tests.integration.conftest import ProjectDirectory
from vmctl.spec import GIB

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

FROM_BOX = """\
box: made
provider: virtualbox
disk: 12GiB
networks: [{name: backend, ip: 192.168.56.50}]
synced_folders: []
"""
HELLO = Path(__file__).parents[2] / "examples" / "hello"


@pytest.fixture
def virtualbox(test_host: Path) -> Iterator[Installation]:
    with installed(front=True) as made:
        yield made


def manage(virtualbox: Installation, *words: str | Path) -> str:
    argv = [virtualbox.bin / "VBoxManage", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def domain(project: ProjectDirectory) -> str:
    return str(project.vmctl("status", "--json").answer["machines"][0]["domain"])


def test_a_day_with_virtualbox(virtualbox: Installation, project: ProjectDirectory) -> None:
    # The example, unchanged: created, folder copied (said so), provisioned, served on the host's loopback.
    shutil.copytree(HELLO, project.root, dirs_exist_ok=True)
    ran = project.vmctl("--set", "port=auto", "up", "--provider", "virtualbox")
    assert "/project is a copy (the guest's kernel has no vboxsf)" in ran.err
    project.write("Vmfile", (project.root / "Vmfile").read_text().replace("port: 8080", "port: auto"))
    assert "virtualbox (exists there)" in project.vmctl("status").out
    port = int(project.vmctl("port", "--guest", "80").out)
    page = (project.root / "site" / "index.html").read_text()
    assert fetch(f"http://127.0.0.1:{port}/") == page
    assert project.vmctl("up").out.startswith("default is up; nothing to do")
    project.vmctl("up", "--provider", "libvirt", status=2)

    # The box is one read-only medium; the machine keeps its differences to it.
    media = manage(virtualbox, "list", "hdds")
    assert media.count("Parent UUID:    base") == 1

    # Kept and brought back, memory and all; the copy on the host stays as it is.
    project.ssh("echo kept | sudo tee /etc/mark /dev/shm/mark")
    assert project.vmctl("snapshot", "save", "before 'it'").out == "default: saved \"before 'it'\"; running\n"
    assert project.vmctl("up").out.startswith("default is up; nothing to do")
    project.ssh("echo lost | sudo tee /etc/mark /dev/shm/mark")
    (kept,) = project.vmctl("snapshot", "list", "--json").answer["machines"]["default"]
    assert kept["memory"]
    assert kept["size"] > 50 * 1024**2
    project.vmctl("snapshot", "restore", "before 'it'")
    assert project.ssh("cat /etc/mark /dev/shm/mark") == "kept\nkept\n"
    assert abs(int(project.ssh("date +%s")) - time.time()) < 10
    assert fetch(f"http://127.0.0.1:{port}/") == page
    assert project.vmctl("up").out.startswith("default is up; nothing to do")
    project.vmctl("snapshot", "push")
    project.ssh("sudo rm /etc/mark")
    project.vmctl("snapshot", "pop")
    assert project.ssh("cat /etc/mark") == "kept\n"
    project.ssh("echo later | sudo tee /etc/later && sudo update-grub && sync")
    assert [row["name"] for row in project.vmctl("snapshot", "list", "--json").answer["machines"]["default"]] == [
        "before 'it'"
    ]

    # Off; made into a box, which takes a copy of it; gone with all that it had.
    project.vmctl("halt")
    assert project.states() == {"default": "stopped"}
    project.vmctl("snapshot", "delete", "before 'it'")
    before = [manage(virtualbox, "list", what) for what in ("vms", "hdds", "dvds")]
    project.vmctl("package", "--output", "made.box")
    assert [manage(virtualbox, "list", what) for what in ("vms", "hdds", "dvds")] == before
    identity = (project.root / ".vmctl" / "machines" / "default" / "host_ed25519.pub").read_text()
    project.vmctl("destroy", "--yes")
    nothing_is_left(virtualbox)

    # A machine from that box: the same user, what was written before and after the snapshot, an identity of its own. It
    # boots by UEFI, and sees the hardware that the Vmfile asks for.
    project.vmctl("box", "add", "made.box", "--name", "made", "--firmware", "uefi")
    project.write("Vmfile", FROM_BOX)
    project.vmctl("up")
    assert project.ssh("id -un; cat /etc/mark /etc/later; wc -l <~/.ssh/authorized_keys") == "vmctl\nkept\nlater\n1\n"
    assert project.ssh("sudo cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1] != identity.split()[1]
    project.ssh("test -d /sys/firmware/efi/efivars")
    assert int(project.ssh("lsblk --bytes --noheadings --nodeps --output SIZE /dev/sda")) == 12 * GIB
    addresses = project.ssh("ip -oneline -4 address show")
    assert "10.0.2.15/24" in addresses
    assert "192.168.56.50/24" in addresses
    shown = manage(virtualbox, "showvminfo", uuid(domain(project)), "--machinereadable")
    assert 'storagecontrollertype0="VirtioSCSI"' in shown
    assert "memory=512" in shown.splitlines()
    assert 'firmware="EFI"' in shown.splitlines()
    project.vmctl("halt", "--force")
    project.vmctl("destroy", "--yes")
    nothing_is_left(virtualbox)
    project.vmctl("box", "remove", "made")


def uuid(name: str) -> str:
    from vmctl_virtualbox import identity

    return identity.identifier(name)


def nothing_is_left(virtualbox: Installation) -> None:
    """No machine, no medium, no extradata of vmctl."""
    assert manage(virtualbox, "list", "vms") == ""
    assert manage(virtualbox, "list", "hdds") == ""
    assert manage(virtualbox, "list", "dvds") == ""
    assert "vmctl/" not in manage(virtualbox, "getextradata", "global", "enumerate")


INTERFERING = """#!/bin/sh
{real} "$@"
status=$?
case "$1" in {word}) kill -9 $PPID ;; esac
exit $status
"""


@pytest.mark.parametrize("word", ["createmedium", "modifyvm", "storageattach", "startvm"])
def test_kill_9_during_up_then_destroy_leaves_nothing(
    virtualbox: Installation, project: ProjectDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    project.write("Vmfile", "box: debian-12\nprovider: virtualbox\nmemory: 512MiB\nsynced_folders: []\n")
    program = tmp_path / "bin" / "VBoxManage"
    program.parent.mkdir()
    program.write_text(INTERFERING.format(real=virtualbox.bin / "VBoxManage", word=word))
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        project.vmctl("up", status=-9)
    if word != "startvm":
        assert project.states() == {"default": "not created"}
        assert "default" in project.vmctl("plan").out
    project.vmctl("destroy", "--yes")
    nothing_is_left(virtualbox)
    assert list((project.root / ".vmctl" / "machines").iterdir()) == []
