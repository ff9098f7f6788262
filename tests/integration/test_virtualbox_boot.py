"""The VirtualBox driver with a real guest on the real VBoxManage; QEMU stands in for VirtualBox's kernel module."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.virtualbox.install import Installation, installed
from vmctl import boxes, keys, seed
from vmctl.driver import Address, Definition, Disk, Forward, Host, Nic, State, Tag
from vmctl.layout import HomeLayout
from vmctl.spec import GIB, BoxRef, MachineSpec
from vmctl.wait import Deadline, until
from vmctl_virtualbox import VirtualBoxDriver, identity

BOOT = 600.0
PORT = 2350
NAME = "umlaut-ü 'web'-0a1b2c3d"

pytestmark = pytest.mark.integration


@pytest.fixture
def installation(private_host: Path) -> Iterator[Installation]:
    with installed(front=True) as made:
        yield made


@pytest.fixture
def driver(installation: Installation) -> VirtualBoxDriver:
    return VirtualBoxDriver(Host(home=installation.root / "home"))


@pytest.fixture
def definition(tmp_path: Path, driver: VirtualBoxDriver) -> Iterator[Definition]:
    made = Definition(
        name=NAME,
        tag=Tag(project="0a1b2c3d" * 4, machine="web", version="0.1.0", root=str(tmp_path)),
        spec=MachineSpec(name="web", box=BoxRef(address="debian-12"), hostname="web", disk=12 * GIB),
        mac="52:54:00:00:23:50",
        console=tmp_path / "console, 'quoted'.log",
        seed=tmp_path / "seed ü.iso",
        forwards=(
            Forward(name="ssh", guest=22, host=PORT, host_ip="127.0.0.1", protocol="tcp"),
            Forward(name="dns", guest=53, host=PORT + 1, host_ip="127.0.0.1", protocol="udp"),
        ),
        nics=(Nic(network="backend", mac="52:54:00:00:23:51", ip="192.168.56.50", prefix=24),),
        network_prefix="vmctl-0a1b2c3d",
    )
    yield made
    driver.destroy(NAME)


@pytest.fixture(scope="module")
def disk(debian_box: Path) -> Disk:
    found = boxes.find(BoxRef(address="debian-12"), HomeLayout(debian_box))
    assert found is not None
    return found.disk()


def write_seed(definition: Definition, driver: VirtualBoxDriver, directory: Path) -> None:
    assert definition.seed is not None
    public, host_key = keys.ensure(directory / "key"), directory / "host"
    known = f"{definition.spec.name} {keys.ensure(host_key)}\n"
    (directory / "known_hosts").write_text(known)
    seed.write(
        definition.seed,
        definition=definition,
        features=driver.features,
        user="vmctl",
        public_key=public,
        host_key=host_key,
    )


class Shell:
    """SSH into the guest."""

    def __init__(self, directory: Path) -> None:
        options = {
            "IdentityFile": directory / "key",
            "UserKnownHostsFile": directory / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "HostKeyAlias": "web",
            "ConnectTimeout": 5,
            "BatchMode": "yes",
        }
        words = [f"-o{name}={value}" for name, value in options.items()]
        self.argv = ["ssh", "-F", "none", *words, "-p", str(PORT), "vmctl@127.0.0.1"]

    def run(self, command: str) -> str:
        done = subprocess.run([*self.argv, command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def answers(self) -> bool:
        return subprocess.run([*self.argv, "true"], capture_output=True, check=False).returncode == 0

    def wait(self) -> None:
        until(self.answers, Deadline.after(BOOT), "SSH")


def test_a_guest_lives_through_all_that_a_machine_lives_through(
    installation: Installation, driver: VirtualBoxDriver, definition: Definition, disk: Disk, tmp_path: Path
) -> None:
    shell = Shell(tmp_path)
    write_seed(definition, driver, tmp_path)
    driver.check(definition)
    driver.create(definition, disk)
    driver.start(NAME)
    assert driver.address(NAME) == Address(host="127.0.0.1", port=PORT)
    shell.wait()

    # The guest sees the hardware that the definition asks for.
    assert int(shell.run("lsblk --bytes --noheadings --nodeps --output SIZE /dev/sda")) == 12 * GIB
    addresses = shell.run("ip -oneline -4 address show")
    assert "10.0.2.15/24" in addresses
    assert "192.168.56.50/24" in addresses

    # A snapshot holds the memory: what was in a RAM disk is there again, what came after is gone.
    shell.run("echo kept > disk-mark && echo kept > /dev/shm/memory-mark && sync")
    kept = driver.save_snapshot(NAME, 'first "ü"')
    assert kept.memory
    assert kept.size
    assert driver.states()[NAME].state is State.RUNNING
    shell.wait()
    shell.run("echo lost > disk-mark && rm /dev/shm/memory-mark && sync")
    driver.restore_snapshot(NAME, 'first "ü"')
    assert driver.states()[NAME].state is State.SAVED
    driver.start(NAME)
    shell.wait()
    assert shell.run("cat disk-mark /dev/shm/memory-mark") == "kept\nkept\n"

    # Suspended and resumed, it goes on where it was.
    driver.suspend(NAME)
    assert driver.states()[NAME].state is State.SAVED
    driver.start(NAME)
    shell.wait()
    assert shell.run("cat /dev/shm/memory-mark") == "kept\n"

    # The power button shuts it down; renamed in the GUI it is the same machine, with its disk.
    driver.stop(NAME)
    until(lambda: driver.states()[NAME].state is State.STOPPED, Deadline.after(BOOT), "shutdown")
    rename: list[str | Path] = [
        installation.bin / "VBoxManage",
        "modifyvm",
        identity.identifier(NAME),
        "--name",
        "renamed by hand",
    ]
    subprocess.run(rename, check=True)
    driver.remove_snapshot(NAME, 'first "ü"')
    assert driver.snapshots(NAME) == ()
    driver.update(definition)
    driver.start(NAME)
    shell.wait()
    assert shell.run("cat disk-mark") == "kept\n"
    assert "Cloud-init v." in definition.console.read_text(errors="replace")

    # It goes with all its files; the converted box stays for the next machine.
    driver.destroy(NAME)
    assert driver.states() == {}
    left = [path.name for path in (installation.root / "home/virtualbox").rglob("*") if path.suffix == ".vdi"]
    assert left == [f"{disk.digest}.vdi"]
