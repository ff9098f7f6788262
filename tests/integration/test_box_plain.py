"""Boxes that are not as vmctl makes them: a plain cloud image with nothing of vmctl's in it, and two disks."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.host import plain_image
from tests.integration.conftest import ProjectDirectory, virsh, volumes
from vmctl import process
from vmctl.boxes.box_store import BoxStore
from vmctl.layout import HomeLayout
from vmctl.spec import GIB

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

VMFILE = """\
box: plain
cpus: 1
memory: 768MiB
disk: 4GiB
hostname: lone.test
synced_folders: [./src:/srv/src]
networks: [{name: back, ip: 192.168.56.77}]
boot_timeout: 600
"""


AGE = """\
sudo touch /etc/cloud/cloud-init.disabled
sudo rm -f /etc/netplan/* /etc/systemd/network/10-* /run/systemd/network/10-*
printf '[Match]\\nName=e*\\n[Network]\\nDHCP=yes\\n' | sudo tee /etc/systemd/network/05-old.network
printf 'Port 2222\\nPasswordAuthentication yes\\n' | sudo tee /etc/ssh/sshd_config.d/00-old.conf
printf 'r! /home/vmctl/.ssh/authorized_keys\\nr! /etc/tmpfiles.d/once.conf\\n' | sudo tee /etc/tmpfiles.d/once.conf
echo 'vmctl:old secret' | sudo chpasswd
"""
OLD = """\
cpus: 1
memory: 768MiB
synced_folders: []
boot_timeout: 600
machines:
  old: {box: old, hostname: elder, ssh_port: 2222, networks: [{name: back, ip: 192.168.56.78}]}
"""
LOOK = "hostname; wc -l <~/.ssh/authorized_keys; ip -brief -4 address"
BOOT = "cat /proc/sys/kernel/random/boot_id"


class TestAPlainCloudImage:
    """It comes up by the seed alone; then, made old, by a password and vmctl's own bootstrap."""

    @pytest.fixture
    def project(self, day: ProjectDirectory) -> ProjectDirectory:
        return day

    def test_it_needs_the_seed_alone(self, project: ProjectDirectory) -> None:
        project.vmctl("box", "add", str(plain_image.image()), "--name", "plain", "--version", "1")
        project.write("Vmfile", VMFILE)
        project.write("src/hello", "hello\n")
        project.vmctl("up")
        assert project.ssh("hostname -f; cat /srv/src/hello; sudo id -un").split() == ["lone.test", "hello", "root"]
        assert int(project.ssh("df --output=size -B1 / | tail -1")) > 3 * GIB
        assert "192.168.56.77/24" in project.ssh("ip -brief address show eth1")

    def test_reload_keeps_key_and_folder(self, project: ProjectDirectory) -> None:
        project.vmctl("reload")
        assert project.ssh("cat /srv/src/hello; wc -l <~/.ssh/authorized_keys").split() == ["hello", "1"]

    def test_its_disk_becomes_a_box_of_the_old_kind(self, project: ProjectDirectory) -> None:
        # No cloud-init, no key that anybody has, a password, SSH on another port.
        project.ssh(AGE)
        project.vmctl("halt")
        (volume,) = [name for name in volumes() if not name.startswith("base-") and not name.endswith(".iso")]
        (disk,) = virsh("qemu:///system", "vol-path", volume, "vmctl")
        process.run(["qemu-img", "convert", "-O", "qcow2", disk, project.root / "old.qcow2"])
        project.write("secret", "old secret\n")
        project.vmctl("box", "add", "old.qcow2", "--no-cloud-init", "--user", "vmctl", "--password-file", "secret")
        project.vmctl("destroy", "--yes")

    def test_a_machine_of_that_box_gets_key_name_and_addresses(self, project: ProjectDirectory) -> None:
        project.write("Vmfile", OLD)
        project.vmctl("up")
        printed = project.ssh(LOOK, "old").split()
        assert printed[:2] == ["elder", "1"]
        assert "192.168.56.78/24" in printed

    def test_it_keeps_them_when_it_boots_again_by_itself(self, project: ProjectDirectory) -> None:
        boot = project.ssh(BOOT, "old")
        project.boot_again("old")
        assert project.ssh(BOOT, "old") != boot
        printed = project.ssh(LOOK, "old").split()
        assert printed[:2] == ["elder", "1"]
        assert "192.168.56.78/24" in printed  # networkd knows it, nobody asked vmctl


def test_a_box_with_two_disks(project: ProjectDirectory) -> None:
    boxes = BoxStore(HomeLayout(Path(project.environment["VMCTL_HOME"])))
    debian = boxes.boxes("debian-12")[0]
    data = project.root / "data.img"
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", data, "1G"])
    process.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x58 0 4k", data])
    metadata = project.write(
        "metadata.json", '{"provider": "libvirt", "disks": [{"path": "root.img"}, {"path": "data.img"}]}'
    )
    with tarfile.open(project.root / "two.box", "w") as archive:
        archive.add(metadata, "metadata.json")
        archive.add(debian.path, "root.img")
        archive.add(data, "data.img")
    project.vmctl("box", "add", "two.box", "--name", "two", "--user", "vmctl")
    project.write("Vmfile", "box: two\ncpus: 1\nmemory: 768MiB\nsynced_folders: []\nboot_timeout: 600\n")
    project.vmctl("up")
    assert project.ssh("sudo head -c4 /dev/vdb; sudo blockdev --getsize64 /dev/vdb") == f"XXXX{GIB}\n"
    assert len([name for name in volumes() if not name.startswith("base-")]) == 3  # two overlays, the seed

    # A snapshot takes both back: the second is read past the guest's cache, which is as it was then in any case.
    project.vmctl("snapshot", "save", "one")
    project.ssh("printf YYYY | sudo dd of=/dev/vdb conv=notrunc,fsync status=none")
    project.vmctl("snapshot", "restore", "one")
    assert project.ssh("sudo dd if=/dev/vdb bs=4k count=1 iflag=direct status=none | head -c4") == "XXXX"
    project.vmctl("snapshot", "delete", "one")
    project.vmctl("destroy", "--yes")
    assert [name for name in volumes() if not name.startswith("base-")] == []
