"""The libvirt driver alone, with a real guest: what no hypervisor double can show."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from msgspec import structs

from vmctl import boxes, key_pairs, seed
from vmctl.driver import Definition, Disk, Forward, Host, Nic, Share, State, Tag
from vmctl.layout import HomeLayout
from vmctl.lifecycle.down import PRESS_AGAIN
from vmctl.seed import GuestIdentity
from vmctl.spec import GIB, MIB, BoxRef, MachineSpec
from vmctl.wait import Deadline, until
from vmctl_libvirt import LibvirtDriver
from vmctl_libvirt.confined_virtiofsd import NOBODY
from vmctl_libvirt.pool import SYSTEM_DIRECTORY

BOOT = 300.0
GUEST_USER = 1000
VARIABLE = "/sys/firmware/efi/efivars/VmctlTest-0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"
MOUNT = "sudo mkdir -p /project && sudo mount -t virtiofs vmctl0 /project"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


class Guest:
    """One machine with a seed of its own, and a way in."""

    def __init__(self, driver: LibvirtDriver, directory: Path, name: str, port: int) -> None:
        directory.mkdir(parents=True)
        self.driver = driver
        self.directory = directory
        self.port = port
        self.definition = Definition(
            name=f"driver-{name}-0a1b2c3d",
            tag=Tag(project="0a1b2c3d" * 4, machine=name, version="0.1.0", root=str(directory)),
            spec=MachineSpec(name=name, box=BoxRef(address="debian-12"), hostname=name, disk=12 * GIB, cpus=1),
            mac=f"52:54:00:00:{port // 100:02d}:{port % 100:02d}",
            console=directory / "console.log",
            seed=directory / "seed.iso",
            forwards=(Forward(name="ssh", guest=22, host=port, host_ip="127.0.0.1", protocol="tcp"),),
            nics=(
                Nic(
                    network="backend", mac=f"52:54:00:01:00:{port % 100:02d}", ip=f"192.168.56.{port % 100}", prefix=24
                ),
            ),
            shares=tuple(
                Share(tag=tag, host=self.shared, kind="virtiofs", owner=(GUEST_USER,) * 2, read_only=tag == "vmctl1")
                for tag in ("vmctl0", "vmctl1")
            ),
            network_prefix="driver-0a1b2c3d-",
        )

    @property
    def tag(self) -> Tag:
        """Whose it is."""
        return self.definition.tag

    @property
    def shared(self) -> Path:
        """The folder that the guest mounts."""
        path = self.directory / "shared"
        path.mkdir(exist_ok=True)
        return path

    @property
    def name(self) -> str:
        """The machine's name in the hypervisor."""
        return self.definition.name

    def create(self, disk: Disk) -> None:
        """Make the machine, with its seed."""
        public = key_pairs.ensure(self.directory / "key")
        key_pairs.ensure(self.directory / "host")
        seed.write(
            self.directory / "seed.iso",
            GuestIdentity(
                definition=self.definition,
                features=self.driver.features,
                user="vmctl",
                public_key=public,
                host_key=self.directory / "host",
                uid=GUEST_USER,
            ),
        )
        (self.directory / "known_hosts").write_text(f"{self.name} {key_pairs.ensure(self.directory / 'host')}\n")
        self.driver.check(self.definition)
        self.driver.create(self.definition, disk)

    def try_ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest."""
        options = {
            "IdentityFile": self.directory / "key",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.directory / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "HostKeyAlias": self.name,
            "ConnectTimeout": 15,
            "BatchMode": "yes",
        }
        words = [f"-o{name}={value}" for name, value in options.items()]
        argv = ["ssh", "-F", "none", *words, "-p", str(self.port), "vmctl@127.0.0.1", command]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def ssh(self, command: str) -> str:
        """Run a command in the guest that must succeed; what it printed."""
        done = self.try_ssh(command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def await_ssh(self) -> None:
        """Wait until the guest lets us in."""
        deadline = Deadline.after(BOOT)
        until(lambda: self.try_ssh("true").returncode == 0, deadline, f"SSH of {self.name}")

    def press_button(self) -> None:
        """Until the guest reacts, which it may do only some seconds after SSH; as `vmctl halt` does."""
        pressed = float("-inf")

        def is_off() -> bool:
            nonlocal pressed
            if time.monotonic() - pressed > PRESS_AGAIN:
                self.driver.stop(self.name, self.tag)
                pressed = time.monotonic()
            return self.driver.states()[self.name].state is State.STOPPED

        until(is_off, Deadline.after(BOOT), f"{self.name} to shut down")

    def await_state(self, state: State) -> None:
        """Wait until the hypervisor says so."""
        until(lambda: self.driver.states()[self.name].state is state, Deadline.after(BOOT), f"{self.name} {state}")


@pytest.fixture(scope="module")
def disk(debian_box: Path) -> Disk:
    found = boxes.find(BoxRef(address="debian-12"), HomeLayout(debian_box))
    assert found is not None
    return found.disk()


@pytest.fixture(scope="class")
def driver(private_host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtDriver]:
    made = LibvirtDriver(Host(home=tmp_path_factory.mktemp("home"), options={"uri": "qemu:///system"}))
    yield made
    for copy in made.box_copies():
        made.remove_box_copy(copy.key)
    made.close()


@pytest.fixture(scope="class")
def guests(driver: LibvirtDriver, private_host: Path, request: pytest.FixtureRequest) -> Iterator[list[Guest]]:
    place = private_host / "guests" / request.node.name
    made = [Guest(driver, place / name, name, port) for name, port in (("web", 2311), ("db", 2312))]
    yield made
    for guest in made:
        driver.destroy(guest.name, guest.tag)


class TestTwoGuests:
    """They share folders and a network, and survive what machines live through."""

    @pytest.fixture
    def web(self, guests: list[Guest]) -> Guest:
        return guests[0]

    def test_both_come_up_with_what_their_definitions_say(
        self, guests: list[Guest], driver: LibvirtDriver, disk: Disk, web: Guest
    ) -> None:
        for guest in guests:
            guest.create(disk)
            driver.start(guest.name, guest.tag)
        for guest in guests:
            guest.await_ssh()
        # The disk has grown, the network between the machines and to the host works.
        assert int(web.ssh("lsblk --bytes --noheadings --nodeps --output SIZE /dev/vda")) == 12 * GIB
        web.ssh("ping -c 1 -W 5 192.168.56.12 && ping -c 1 -W 5 192.168.56.1")

    def test_the_folder_is_live_both_ways(self, web: Guest) -> None:
        # Its files belong to the login user there and to its owner here.
        (web.shared / "from-host").write_text("host\n")
        assert web.ssh(f"{MOUNT} && cat /project/from-host") == "host\n"
        web.ssh("echo guest > /project/from-guest && echo more >> /project/from-host")
        assert (web.shared / "from-guest").read_text() == "guest\n"
        assert (web.shared / "from-guest").stat().st_uid == os.getuid()
        (web.shared / "from-host").write_text("edited\n")
        assert web.ssh("cat /project/from-host") == "edited\n"

    def test_it_has_the_rights_of_its_folders_owner_and_no_more(self, web: Guest) -> None:
        """A hostile root in the guest, in a folder that root owns on this host, and one that is read-only."""
        web.ssh("sudo mkdir /project/made && sudo touch /project/made/by-root && sudo chmod 755 /project/made/by-root")
        assert (web.shared / "made" / "by-root").stat().st_uid == NOBODY
        refused = (
            "cp /bin/true /project/tool && chmod u+s /project/tool",
            "sudo chmod u+s /project/tool",
            "sudo chmod 2755 /project/tool",
            "sudo install -m 4755 /bin/true /project/made/tool",
            "sudo mknod /project/disk b 254 0",
            "mkdir -p /tmp/ro && sudo mount -t virtiofs vmctl1 /tmp/ro && sudo touch /tmp/ro/x",
            "sudo mount -o remount,rw /tmp/ro && sudo touch /tmp/ro/x",
            "sudo rm /tmp/ro/from-host",
        )
        ends = web.ssh(
            "; ".join(f"sh -c {shlex.quote(command)} >/dev/null 2>&1; echo $?" for command in refused)
        ).split()
        assert [command for command, end in zip(refused, ends, strict=True) if end == "0"] == []
        found = {path.name: path.lstat() for path in (*web.shared.iterdir(), *(web.shared / "made").iterdir())}
        assert {"disk", "x"} & found.keys() == set()
        assert "from-host" in found
        assert not any(status.st_mode & (stat.S_ISUID | stat.S_ISGID) for status in found.values())
        assert web.ssh("cat /tmp/ro/from-host") == (web.shared / "from-host").read_text()
        web.ssh("sudo rm -r /project/made /project/tool && sudo umount /tmp/ro")

    def test_with_a_live_folder_it_is_frozen_and_goes_on(self, driver: LibvirtDriver, web: Guest) -> None:
        web.ssh("echo here > /dev/shm/mark")
        driver.suspend(web.name, web.tag)
        assert driver.states()[web.name].state is State.PAUSED
        driver.start(web.name, web.tag)
        assert web.ssh("cat /dev/shm/mark /project/from-host") == "here\nedited\n"

    def test_beside_a_live_folder_a_snapshot_keeps_the_disk_alone(self, driver: LibvirtDriver, web: Guest) -> None:
        web.ssh("echo before > mark && sync")
        assert not driver.save_snapshot(web.name, web.tag, "disk").memory
        web.ssh("echo after > mark && sync && cat /project/from-host")
        driver.restore_snapshot(web.name, web.tag, "disk")
        assert driver.states()[web.name].state is State.STOPPED
        driver.start(web.name, web.tag)
        web.await_ssh()
        assert web.ssh("cat mark") == "before\n"
        driver.remove_snapshot(web.name, web.tag, "disk")
        assert web.ssh("cat mark") == "before\n"
        assert len(overlays(web.name)) == 1

    def test_a_reboot_by_the_guest_is_the_same_run(self, driver: LibvirtDriver, web: Guest) -> None:
        run = driver.states()[web.name].run
        console, reboots = web.definition.console, "reboot: Restarting system"
        before = console.read_text(errors="replace").count(reboots)
        web.try_ssh("sudo systemctl reboot --no-block")
        # What comes then takes long: in the same QEMU, an emulated guest boots two to five times as slowly.
        deadline = Deadline.after(BOOT)
        until(lambda: console.read_text(errors="replace").count(reboots) > before, deadline, "the guest to reboot")
        assert driver.states()[web.name].state is State.RUNNING
        assert driver.states()[web.name].run == run

    def test_power_off_by_the_button_and_on_is_another_run(self, guests: list[Guest], driver: LibvirtDriver) -> None:
        _, db = guests
        run = driver.states()[db.name].run
        db.press_button()
        driver.start(db.name, db.tag)
        assert driver.states()[db.name].run != run


@pytest.fixture(scope="class")
def guest(guests: list[Guest], driver: LibvirtDriver, disk: Disk) -> Guest:
    guest = guests[0]
    spec = structs.replace(guest.definition.spec, options={"libvirt": {"firmware": "uefi"}})
    guest.definition = structs.replace(guest.definition, shares=(), spec=spec)
    guest.create(disk)
    driver.start(guest.name, guest.tag)
    guest.await_ssh()
    return guest


class TestAGuestWithUefiAndWithoutLiveFolders:
    """Its memory can be kept: on disk while it sleeps, and in snapshots, with disk and variables of its firmware."""

    def test_it_is_saved_to_disk(self, driver: LibvirtDriver, guest: Guest) -> None:
        guest.ssh("echo here > /dev/shm/mark")
        driver.suspend(guest.name, guest.tag)
        assert driver.states()[guest.name].state is State.SAVED
        driver.start(guest.name, guest.tag)
        assert guest.ssh("cat /dev/shm/mark") == "here\n"

    def test_what_its_console_said_is_the_users_to_read(self, guest: Guest) -> None:
        console = guest.definition.console
        assert console.stat().st_uid == os.getuid()
        assert "systemd" in console.read_text(errors="replace")

    def test_snapshots_keep_disk_and_memory(self, driver: LibvirtDriver, guest: Guest) -> None:
        guest.ssh(f"printf '\\7\\0\\0\\0kept' | sudo tee {VARIABLE} > /dev/null")
        guest.ssh("echo one > mark && echo one > /dev/shm/mark && sync")
        first = driver.save_snapshot(guest.name, guest.tag, "first")
        assert first.memory
        assert first.size
        assert first.size > 50 * MIB
        assert driver.states()[guest.name].state is State.RUNNING
        guest.ssh("echo two > mark && echo two > /dev/shm/mark && sync")
        driver.save_snapshot(guest.name, guest.tag, "second")

    def test_back_to_the_first_disk_and_memory_are_those_of_then(self, driver: LibvirtDriver, guest: Guest) -> None:
        driver.restore_snapshot(guest.name, guest.tag, "first")
        assert driver.states()[guest.name].state is State.SAVED
        driver.start(guest.name, guest.tag)
        guest.await_ssh()
        assert guest.ssh("cat mark /dev/shm/mark") == "one\none\n"
        guest.ssh("echo lost > mark && sync")

    def test_forwards_to_the_second_which_is_on_another_branch(self, driver: LibvirtDriver, guest: Guest) -> None:
        driver.restore_snapshot(guest.name, guest.tag, "second")  # taken away while it runs
        driver.start(guest.name, guest.tag)
        guest.await_ssh()
        assert guest.ssh("cat mark /dev/shm/mark") == "two\ntwo\n"

    def test_deleted_snapshots_are_joined_into_one_overlay_while_it_runs(
        self, driver: LibvirtDriver, guest: Guest
    ) -> None:
        driver.remove_snapshot(guest.name, guest.tag, "first")
        driver.remove_snapshot(guest.name, guest.tag, "second")
        guest.ssh("echo three > mark && sync && cat /etc/hostname > /dev/null")
        assert driver.snapshots(guest.name, guest.tag) == ()
        assert len(overlays(guest.name)) == 1

    def test_off_and_on_it_is_whole(self, driver: LibvirtDriver, guest: Guest) -> None:
        guest.press_button()
        driver.update(guest.definition)
        driver.start(guest.name, guest.tag)
        guest.await_ssh()
        assert guest.ssh(f"cat mark && sudo tail -c 4 {VARIABLE}") == "three\nkept"

    def test_destroy_takes_its_disks_and_its_variables(self, driver: LibvirtDriver, guest: Guest) -> None:
        variables = nvram(driver, guest.name)
        assert variables.exists()
        driver.destroy(guest.name, guest.tag)
        assert overlays(guest.name) == []
        assert not variables.exists()


def nvram(driver: LibvirtDriver, name: str) -> Path:
    """The file with a running machine's UEFI variables."""
    text = driver._connection.run(lambda opened: opened.lookupByName(name).XMLDesc(0), "look")
    path = ET.fromstring(text).findtext("os/nvram")  # noqa: S314  libvirt's own
    assert path
    return Path(path)


def overlays(name: str) -> list[str]:
    """The files of a machine in the pool, but for the seed."""
    return [path.name for path in SYSTEM_DIRECTORY.iterdir() if name in path.name and not path.name.endswith(".iso")]
