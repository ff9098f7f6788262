"""What a user does with VirtualBox, by the command line, with real guests; QEMU stands in for its kernel module."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.virtualbox.install import Installation, installed
from tests.integration.conftest import ProjectDirectory, fetch
from vmctl.spec import GIB

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

FROM_BOX = """\
box: made
provider: virtualbox
disk: 12GiB
networks: [{name: backend, ip: 192.168.56.50}]
synced_folders: [./src:/srv/src]
provision: [{name: once, shell: {inline: "date +%s.%N >>/var/lib/once; sleep 10"}}]
"""
WHO = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub ~/.ssh/authorized_keys"
HELLO = Path(__file__).parents[2] / "examples" / "hello"


@pytest.fixture(scope="module")
def virtualbox(test_host: Path) -> Iterator[Installation]:
    """One for all tests, each of which leaves nothing in it."""
    with installed(front=True) as made:
        yield made


def manage(virtualbox: Installation, *words: str | Path) -> str:
    argv = [virtualbox.bin / "VBoxManage", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def domain(project: ProjectDirectory) -> str:
    return str(project.vmctl("status", "--json").answer["machines"][0]["domain"])


@pytest.fixture(scope="class")
def example(virtualbox: Installation, day: ProjectDirectory) -> ProjectDirectory:
    shutil.copytree(HELLO, day.root, dirs_exist_ok=True)
    return day


class TestADayWithVirtualBox:
    """The example, unchanged; then a box of its machine, and a machine of that box."""

    @pytest.fixture
    def project(self, example: ProjectDirectory) -> ProjectDirectory:
        return example

    def test_up_says_that_the_folder_is_a_copy(self, project: ProjectDirectory) -> None:
        words = ("--set", "port=auto", "up", "--provider", "virtualbox")
        project.cut_power_at("Starting vmctl-seed.serv", *words)
        ran = project.vmctl(*words)
        assert "/project is a copy (the guest's kernel has no vboxsf)" in ran.err
        project.write("Vmfile", (project.root / "Vmfile").read_text().replace("port: 8080", "port: auto"))
        assert "virtualbox (exists there)" in project.vmctl("status").out
        assert project.vmctl("up").out.startswith("default is up; nothing to do")
        project.vmctl("up", "--provider", "libvirt", status=2)

    def test_its_service_is_on_the_hosts_loopback(self, project: ProjectDirectory) -> None:
        assert page(project) == (project.root / "site" / "index.html").read_text()

    def test_the_box_is_one_read_only_medium(self, virtualbox: Installation) -> None:
        # The machine keeps its differences to it.
        assert manage(virtualbox, "list", "hdds").count("Parent UUID:    base") == 1

    def test_a_snapshot_brings_back_memory_and_all(self, project: ProjectDirectory) -> None:
        project.ssh("echo kept | sudo tee /etc/mark /dev/shm/mark")
        assert project.vmctl("snapshot", "save", "before 'it'").out == "default: saved \"before 'it'\"; running\n"
        assert project.vmctl("up").out.startswith("default is up; nothing to do")
        project.ssh("echo lost | sudo tee /etc/mark /dev/shm/mark")
        (kept,) = project.vmctl("snapshot", "list", "--json").answer["machines"]["default"]
        assert kept["memory"]
        assert kept["size"] > 50 * 1024**2
        project.vmctl("snapshot", "restore", "before 'it'")
        *marks, now = project.ssh("cat /etc/mark /dev/shm/mark; date +%s").split()
        assert marks == ["kept", "kept"]
        assert abs(int(now) - time.time()) < 10
        assert page(project) == (project.root / "site" / "index.html").read_text()
        assert project.vmctl("up").out.startswith("default is up; nothing to do")

    def test_push_and_pop(self, project: ProjectDirectory) -> None:
        project.vmctl("snapshot", "push")
        project.ssh("sudo rm /etc/mark")
        project.vmctl("snapshot", "pop")
        printed = project.ssh("cat /etc/mark; echo later | sudo tee /etc/later && sudo update-grub && sync")
        assert printed.splitlines()[:2] == ["kept", "later"]
        assert [row["name"] for row in project.vmctl("snapshot", "list", "--json").answer["machines"]["default"]] == [
            "before 'it'"
        ]

    def test_off_it_is_made_into_a_box_which_takes_a_copy(
        self, virtualbox: Installation, project: ProjectDirectory
    ) -> None:
        project.vmctl("halt")
        assert project.states() == {"default": "stopped"}
        project.vmctl("snapshot", "delete", "before 'it'")
        before = [manage(virtualbox, "list", what) for what in ("vms", "hdds", "dvds")]
        project.vmctl("package", "--output", "made.box")
        assert [manage(virtualbox, "list", what) for what in ("vms", "hdds", "dvds")] == before

    def test_destroyed_it_is_gone_with_all_that_it_had(
        self, virtualbox: Installation, project: ProjectDirectory
    ) -> None:
        shutil.copy(project.state / "machines" / "default" / "host_ed25519.pub", project.root / "was.pub")
        project.vmctl("destroy", "--yes")
        nothing_is_left(virtualbox)

    def test_a_machine_of_that_box_is_the_same_with_an_identity_of_its_own(self, project: ProjectDirectory) -> None:
        project.vmctl("box", "add", "made.box", "--name", "made", "--firmware", "uefi")
        project.write("Vmfile", FROM_BOX)
        project.write("src/stays", "1")
        project.write("src/goes", "")
        project.with_layers()
        assert project.vmctl("up", "--json").answer["provisioned"]["machines"]["default"]["ran"] == ["once"]
        printed = project.ssh("id -un; cat /etc/mark /etc/later; wc -l <~/.ssh/authorized_keys")
        assert printed == "vmctl\nkept\nlater\n1\n"  # what was written before and after the snapshot
        machine_mark = (project.root / "was.pub").read_text()
        assert project.ssh("sudo cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1] != machine_mark.split()[1]

    def test_made_again_it_runs_nothing_and_is_another_machine(self, project: ProjectDirectory) -> None:
        assert project.vmctl("up").out.startswith("default is up; nothing to do"), "to make a layer is not a start"
        before = project.ssh(f"cat /var/lib/once; {WHO}").splitlines()
        assert project.ssh("cd /srv/src && ls").split() == ["goes", "stays"]
        project.ssh("touch /srv/src/made")
        (project.root / "src" / "goes").unlink()
        project.vmctl("destroy", "--yes")
        assert "  from layer 1 of 1" in project.vmctl("plan").out
        ran = project.vmctl("up", "--json")
        assert ran.answer["provisioned"] == {}
        texts = [row.get("text") for row in ran.objects() if row.get("event") == "step-started"]
        assert "creating from layer 1 of 1 on made" in texts
        now = project.ssh(f"cat /var/lib/once; {WHO}").splitlines()
        assert [line for line in now if line in before] == before[:1], "it was provisioned once"
        assert len(now) == len(before)
        assert project.ssh("cd /srv/src && ls").split() == ["stays"], "the copy that the layer had is as the host's"

    def test_it_boots_by_uefi_and_sees_the_hardware_of_the_vmfile(
        self, virtualbox: Installation, project: ProjectDirectory
    ) -> None:
        project.ssh("test -d /sys/firmware/efi/efivars")
        assert int(project.ssh("lsblk --bytes --noheadings --nodeps --output SIZE /dev/sda")) == 12 * GIB
        addresses = project.ssh("ip -oneline -4 address show")
        assert "10.0.2.15/24" in addresses
        assert "192.168.56.50/24" in addresses
        shown = manage(virtualbox, "showvminfo", uuid(domain(project)), "--machinereadable")
        assert 'storagecontrollertype0="VirtioSCSI"' in shown
        assert "memory=512" in shown.splitlines()
        assert 'firmware="EFI"' in shown.splitlines()

    def test_power_cut_and_destroyed_nothing_is_left_of_it(
        self, virtualbox: Installation, project: ProjectDirectory
    ) -> None:
        project.vmctl("halt", "--force")
        project.vmctl("destroy", "--yes")
        nothing_is_left(virtualbox)
        project.vmctl("cache", "prune", "--all")
        assert list(Path(project.environment["VMCTL_HOME"], "virtualbox").rglob("*.vdi")) == []
        project.vmctl("box", "remove", "made")


def page(project: ProjectDirectory) -> str:
    return fetch(f"http://127.0.0.1:{int(project.vmctl('port', '--guest', '80').out)}/")


def uuid(name: str) -> str:
    from vmctl_virtualbox import machine_mark

    return machine_mark.identifier(name)


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
    project.write("Vmfile", "box: debian-12\nprovider: virtualbox\ncpus: 1\nmemory: 512MiB\nsynced_folders: []\n")
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
    assert list((project.state / "machines").iterdir()) == []
