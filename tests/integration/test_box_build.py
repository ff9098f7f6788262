"""The debian-12 box, built by its own recipe, boots under plain QEMU with a seed and nothing of vmctl's around it."""

from __future__ import annotations

import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmctl import key_pairs, seed
from vmctl.boxes import Box, recipe
from vmctl.boxes.box_store import BoxStore
from vmctl.driver import Definition, Features, Tag
from vmctl.layout import HomeLayout
from vmctl.process import find
from vmctl.seed import GuestIdentity
from vmctl.spec import GIB, BoxRef, MachineSpec

pytestmark = pytest.mark.integration

MAC = "52:54:00:12:34:56"
DEADLINE = 300.0
Guest = Callable[[str], str]


@pytest.fixture(scope="module")
def box(debian_box: Path) -> Box:
    """The box that the current recipe made."""
    made = recipe.load("debian-12").digest
    boxes = [one for one in BoxStore(HomeLayout(debian_box)).boxes("debian-12") if one.provenance["recipe"] == made]
    assert boxes, "the cache has no box of this recipe: scripts/test-parts"
    return boxes[0]


@pytest.fixture(scope="module")
def guest(box: Box, test_host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """Runs a command in a guest that plain QEMU boots from the box, on a disk that is larger than the box's."""
    place = tmp_path_factory.mktemp("plain", numbered=True)
    disk = place / "disk.qcow2"
    create = [find("qemu-img"), "create", "-q", "-f", "qcow2", "-F", box.format, "-b", str(box.path), str(disk)]
    subprocess.run([*create, str(20 * GIB)], check=True)
    user_key, host_key = place / "user", place / "host"
    key_pairs.ensure(host_key)
    machine = MachineSpec(name="plain", box=BoxRef(address=box.name))
    seed.write(
        place / "seed.iso",
        GuestIdentity(
            definition=Definition(
                name="plain",
                tag=Tag(project="0" * 32, machine="plain", version="0"),
                spec=machine,
                mac=MAC,
                console=place / "console",
            ),
            features=Features(formats=("qcow2",), folders=()),
            user=box.user,
            public_key=key_pairs.ensure(user_key),
            host_key=host_key,
        ),
    )
    port = _free_port()
    with (place / "qemu.log").open("wb") as log:
        child = subprocess.Popen(_qemu(place, disk, port), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        ssh = _ssh(place, box.user, user_key, host_key, port)
        _await(ssh, child, place)
        yield lambda command: subprocess.run([*ssh, command], check=True, capture_output=True, text=True).stdout
    finally:
        child.kill()
        child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _qemu(place: Path, disk: Path, port: int) -> list[str]:
    return [
        find("qemu-system-x86_64"), "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
        "-m", "1024", "-nodefaults", "-display", "none", "-serial", f"file:{place}/console",
        "-drive", f"file={disk},if=virtio,format=qcow2",
        "-drive", f"file={place}/seed.iso,if=virtio,format=raw,readonly=on",
        "-netdev", f"user,id=nic1,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", f"virtio-net-pci,netdev=nic1,mac={MAC}",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip


def _ssh(place: Path, user: str, user_key: Path, host_key: Path, port: int) -> list[str]:
    known = place / "known_hosts"
    known.write_text(f"plain {key_pairs.public_path(host_key).read_text()}")
    options = {
        "IdentityFile": str(user_key), "IdentitiesOnly": "yes", "UserKnownHostsFile": str(known),
        "HostKeyAlias": "plain", "StrictHostKeyChecking": "yes", "BatchMode": "yes", "ConnectTimeout": "15",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return [find("ssh"), "-F", "none", *words, "-p", str(port), f"{user}@127.0.0.1"]


def _await(ssh: list[str], child: subprocess.Popen[bytes], place: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while subprocess.run([*ssh, "true"], check=False, capture_output=True).returncode:
        console = (place / "console").read_text(errors="replace") if (place / "console").exists() else ""
        assert child.poll() is None, (place / "qemu.log").read_text()
        assert time.monotonic() < deadline, console[-4000:]
        time.sleep(0.2)


def test_the_metadata_says_what_went_in(box: Box) -> None:
    assert (box.format, box.firmware, box.seeding, box.user) == ("qcow2", "bios", "vmctl", "vmctl")
    packages = [line.split()[0] for line in box.provenance["packages"]]
    assert "cloud-init" not in packages
    assert {"openssh-server", "python3", "sudo", "rsync"} <= set(packages)
    assert packages == sorted(packages)
    assert box.provenance["source_date_epoch"] > 0
    assert all("deb.debian.org" in source for source in box.provenance["sources"])


def test_the_user_logs_in_and_may_become_root(guest: Guest) -> None:
    assert guest("sudo id -un").strip() == "root"


def test_nothing_failed_at_boot(guest: Guest) -> None:
    assert guest("systemctl is-system-running --wait").strip() == "running"
    assert guest("systemctl --failed --no-legend").strip() == ""


LATER = (
    "systemd-logind", "getty@tty1", "serial-getty@ttyS0", "systemd-user-sessions", "vmctl-devices", "vmctl-grow",
    "vmctl-coldplug", "systemd-timesyncd", "systemd-journal-flush",
)  # fmt: skip


def test_what_stands_behind_ssh_comes_soon(guest: Guest) -> None:
    deadline = time.monotonic() + DEADLINE
    while (states := guest(f"systemctl is-active {' '.join(LATER)} || true").split()) != ["active"] * len(LATER):
        assert time.monotonic() < deadline, dict(zip(LATER, states, strict=True))
        time.sleep(1)
    assert guest("systemctl --failed --no-legend").strip() == ""
    assert guest("ls /var/log/journal/*/system.journal").count("\n") == 1
    assert abs(int(guest("date +%s")) - time.time()) < 10


def test_the_root_is_checked_and_mounted_as_fstab_says(guest: Guest) -> None:
    assert {"rw", "discard", "errors=remount-ro"} <= set(guest("findmnt -no OPTIONS /").strip().split(","))
    assert guest("sudo ls /run/initramfs").split() == ["fsck-root", "root-is-as-in-fstab"]


def test_what_is_not_started_for_nothing_is_started_for_something(guest: Guest) -> None:
    guest("echo loop | sudo tee /etc/modules && sudo systemctl restart systemd-modules-load")
    assert "loop" in guest("cat /proc/modules")
    script = "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: old\n# Default-Start: 2\n### END INIT INFO\n"
    guest(f"printf {shlex.quote(script)} | sudo tee /etc/rc.local /etc/init.d/old")
    guest("sudo chmod +x /etc/rc.local /etc/init.d/old && echo 'no /dev/no none noauto' | sudo tee /etc/crypttab")
    guest("sudo systemctl daemon-reload")
    made = guest("find /run/systemd/generator* -name '*.service' -printf '%f\\n'").split()
    assert {"rc-local.service", "old.service", "systemd-cryptsetup@no.service"} <= set(made)


def test_the_root_file_system_fills_the_disk(guest: Guest) -> None:
    size = int(guest("df --output=size -B1 / | tail -1"))
    assert size > 19 * GIB


def test_the_machine_has_an_identity_of_its_own(guest: Guest) -> None:
    assert len(guest("cat /etc/machine-id").strip()) == 32
    assert guest("hostname").strip() == "plain"
    assert guest("ls /etc/ssh").split().count("ssh_host_ed25519_key") == 1


def test_what_folders_and_provisioners_need_is_there(guest: Guest) -> None:
    guest("command -v python3 rsync sudo setfacl curl && sudo modprobe virtiofs && python3 -c 'import apt'")
    assert guest("systemctl list-timers --no-legend 'apt-daily*'").strip() == ""  # none is ever due


def test_the_console_is_on_the_serial_port(guest: Guest) -> None:
    assert guest("systemctl is-active serial-getty@ttyS0").strip() == "active"


def test_the_boot_loader_can_be_written_anew(guest: Guest) -> None:
    guest("sudo update-grub")
    assert "root=UUID=" in guest("sudo cat /boot/grub/grub.cfg")
