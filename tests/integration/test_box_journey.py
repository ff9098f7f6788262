"""A box's journey: out of a vmctl machine, into a vmctl machine and the real Vagrant, and back out of that."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.integration.conftest import ProjectDirectory, domains, volumes
from tests.unit.oci_servers import docker_registry
from vmctl import process

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

CHUNK = 1024**2
SMALL = "cpus: 1\nmemory: 768MiB\nsynced_folders: []\nboot_timeout: 600\n"
VAGRANTFILE = """
Vagrant.configure("2") do |config|
  config.vm.box = "mine"
  config.vm.boot_timeout = 900
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.vm.provider :libvirt do |libvirt|
    libvirt.uri = "qemu:///system"
    libvirt.driver = "qemu"
    libvirt.cpu_mode = "custom"
    libvirt.cpu_model = "qemu64"
    libvirt.cpus = 2
    libvirt.memory = 768
    libvirt.graphics_type = "none"
    libvirt.management_network_mode = "open"
    libvirt.serial :type => "file", :source => {:path => "%s"}
  end
end
"""
IDENTITY = "sudo sh -c 'cat /etc/machine-id /etc/ssh/ssh_host_*_key.pub'"
STUB = (
    "#!/bin/sh\n# virt-sysprep boots an appliance that is not here; what it would clean does not matter to this test.\n"
)
# Make it a guest of the old kind: nothing that reads a seed, an address by DHCP, the SSH keys that it has.
AGE = """
sudo systemctl disable vmctl-seed.service
printf '[Match]\\nName=e*\\n[Network]\\nDHCP=yes\\n' | sudo tee /etc/systemd/network/05-old.network
sudo rm -f /etc/systemd/network/10-* /run/systemd/network/10-*
sync
"""


@dataclass
class Vagrant:
    """The real Vagrant in a directory of its own, on the test host's libvirt."""

    root: Path
    environment: dict[str, str]

    def __call__(self, *words: str, check: bool = True) -> str:
        argv = ["vagrant", *words]
        done = subprocess.run(
            argv, cwd=self.root, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        print(f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}[status {done.returncode}]")  # noqa: T201
        assert not check or done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="class")
def vagrant(test_host: Path, request: pytest.FixtureRequest) -> Iterator[Vagrant]:
    """Vagrant, whose machine is destroyed at the end."""
    for program in ("vagrant", "dnsmasq"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
            pytest.fail("the real Vagrant is missing:  sudo apt-get install --no-install-recommends vagrant"
                        " vagrant-libvirt dnsmasq-base")  # fmt: skip
    root = test_host / "vagrant"
    binaries = root / "bin"
    binaries.mkdir(parents=True)
    for name in ("virt-sysprep", "virt-sparsify"):
        (binaries / name).write_text(STUB)
        (binaries / name).chmod(0o755)
    (root / "Vagrantfile").write_text(VAGRANTFILE % (root / "console.log"))
    made = Vagrant(
        root,
        {
            "VAGRANT_HOME": str(root / "home"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "PATH": f"{binaries}:{os.environ['PATH']}",
        },
    )
    yield made
    made("destroy", "--force", check=False)
    console = root / "console.log"
    print(console.read_text(errors="replace")[-3000:] if console.exists() else "no console")  # noqa: T201


def _image(project: ProjectDirectory, name: str) -> Path:
    """The disk of the newest box of that name."""
    boxes = project.vmctl("box", "list", "--json").answer["boxes"]
    return Path(next(one["path"] for one in boxes if one["name"] == name))


def _raw(image: Path, target: Path) -> Path:
    process.run(["qemu-img", "convert", "-O", "raw", "--", image, target])
    return target


def _changed(old: Path, new: Path) -> int:
    """Bytes of the blocks of a file system that differ."""
    found, block = 0, 4096
    with old.open("rb") as before, new.open("rb") as after:
        for number in sorted(_chunks(before) | _chunks(after)):
            was, data = (_chunk(stream, number) for stream in (before, after))
            if data != was:
                found += sum(block for at in range(0, CHUNK, block) if data[at : at + block] != was[at : at + block])
    return found


def _chunks(stream: BinaryIO) -> set[int]:
    """The numbers of those that are not holes."""
    found, at = set[int](), 0
    with suppress(OSError):  # there is no more data
        while True:
            start = os.lseek(stream.fileno(), at, os.SEEK_DATA)
            at = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            found.update(range(start // CHUNK, -(-at // CHUNK)))
    return found


def _chunk(stream: BinaryIO, number: int) -> bytes:
    return os.pread(stream.fileno(), CHUNK, number * CHUNK).ljust(CHUNK, b"\0")


class TestOutOfVmctlIntoVmctlAndVagrantAndBack:
    """The journey's stations, in their order."""

    @pytest.fixture
    def project(self, day: ProjectDirectory) -> ProjectDirectory:
        return day

    def test_a_machine_becomes_a_box_and_stays_as_it_is(self, project: ProjectDirectory) -> None:
        project.write("Vmfile", f"box: debian-12\n{SMALL}")
        project.vmctl("up")
        project.write("identity", project.ssh(f"echo hello | sudo tee /etc/from-before >/dev/null; {IDENTITY}"))
        project.vmctl("halt")
        before = (domains(), volumes())
        project.vmctl("package", "--output", "my.box")
        assert (domains(), volumes()) == before

    def test_a_machine_of_it_has_an_identity_of_its_own(self, project: ProjectDirectory) -> None:
        project.vmctl("box", "add", "my.box", "--name", "mine")
        project.write("Vmfile", f"box: debian-12\n{SMALL}machines: {{default: {{}}, copy: {{box: mine}}}}\n")
        project.vmctl("up", "copy")
        assert project.ssh("cat /etc/from-before", "copy") == "hello\n"
        mine, other = (project.root / "identity").read_text(), project.ssh(IDENTITY, "copy")
        assert not set(mine.split()) & set(other.split()) - {"ssh-ed25519", "vmctl"}
        assert project.ssh("wc -l <~/.ssh/authorized_keys; hostname", "copy").split() == ["1", "copy"]
        assert project.ssh("systemctl --failed --no-legend", "copy") == ""
        project.vmctl("destroy", "--yes", "copy")

    def test_it_costs_its_changes_in_a_registry(self, project: ProjectDirectory, tmp_path: Path) -> None:
        """Of what the machine and its cleaning wrote, compared with its box."""
        boxes = {name: _image(project, name) for name in ("debian-12", "mine")}
        with docker_registry(tmp_path / "registry") as registry:
            project.vmctl("box", "push", "debian-12", registry.at("debian"))
            pushed = project.vmctl("box", "push", "mine", registry.at("mine"), "--json").answer
        assert pushed["parent"].startswith("debian-12 ")
        changed = _changed(*(_raw(image, tmp_path / name) for name, image in boxes.items()))
        print(f"sent {pushed['sent']} for {changed} changed bytes ({pushed['sent'] / changed:.3f})")  # noqa: T201
        assert pushed["sent"] <= 1.1 * changed

    def test_vagrant_brings_it_up_from_a_published_folder(self, project: ProjectDirectory, vagrant: Vagrant) -> None:
        handler = partial(SimpleHTTPRequestHandler, directory=str(project.root / "public"))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_address[1]}"
            project.vmctl("box", "publish", "mine", "public", "--url", url)
            vagrantfile = vagrant.root / "Vagrantfile"
            stated = vagrantfile.read_text()
            vagrantfile.write_text(
                stated.replace('box = "mine"', f'box = "mine"\n  config.vm.box_url = "{url}/mine.json"')
            )
            vagrant("up")
            vagrantfile.write_text(stated)
            server.shutdown()
        assert vagrant("ssh", "-c", "cat /etc/from-before").split() == ["hello"]

    def test_vagrant_packages_it_as_a_guest_of_the_old_kind(self, vagrant: Vagrant) -> None:
        vagrant("ssh", "-c", AGE)
        vagrant("halt")
        vagrant("package", "--output", "theirs.box")

    def test_that_box_comes_back(self, project: ProjectDirectory, vagrant: Vagrant) -> None:
        theirs = str(vagrant.root / "theirs.box")
        project.vmctl("box", "add", theirs, "--name", "theirs", "--user", "vmctl")  # Vagrant forgets it
        project.write("Vmfile", f"{SMALL}machines: {{old: {{box: theirs, hostname: elder}}}}\n")
        project.vmctl("up", "old")
        printed = project.ssh("cat /etc/from-before; hostname; wc -l <~/.ssh/authorized_keys", "old").split()
        assert printed == ["hello", "elder", "1"]
