"""The test host keeps its promises: the other integration tests rely on them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host import boots, lxd_cluster
from tests.host.incus import Incus
from tests.host.lxd import Lxd
from tests.host.ordinary_user import UID, as_user
from tests.host.private_dev import kvm_works
from vmctl.wait import Deadline, until

pytestmark = pytest.mark.integration


def output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_its_network_is_its_own(private_host: Path) -> None:
    devices = {device["ifname"] for device in json.loads(output("ip", "-json", "link"))}
    assert "lo" in devices
    # Some are of tests that were here before, on the same lane.
    ours = ("virbr", "vnet", Lxd.BRIDGE, Incus.BRIDGE, lxd_cluster.BRIDGE, "lab-")
    assert not [name for name in devices if name != "lo" and not name.startswith(ours)]
    routes = json.loads(output("ip", "-json", "route"))
    assert not [route for route in routes if route["dst"] == "default"]
    assert Path("/etc/resolv.conf").read_text() == ""


def test_a_kvm_that_does_not_work_is_hidden(private_host: Path) -> None:
    assert Path("/dev/kvm").exists() <= kvm_works()


def test_there_are_loop_devices_for_the_pools_of_all_lanes(private_host: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1024**2))
    found: list[str] = []
    try:
        while len(found) < 12:  # a lane can have five, and machines often have no more than eight nodes
            found += output("losetup", "--find", "--show", str(image)).split()
    finally:
        for device in found:
            subprocess.run(["losetup", "--detach", device], check=True)


def test_libvirt_is_its_own(private_host: Path) -> None:
    assert Path("/var/lib/libvirt").samefile(private_host / "var/lib/libvirt")
    assert "libvirt" in output("virsh", "--connect", "qemu:///system", "version")


def test_an_ordinary_user_has_a_session_and_no_more(private_host: Path) -> None:
    assert output(*as_user(["id", "-u"], {})).strip() == str(UID)
    assert output(*as_user(["virsh", "--connect", "qemu:///session", "uri"], {})).strip() == "qemu:///session"
    denied = subprocess.run(
        as_user(["virsh", "--connect", "qemu:///system", "list"], {}), check=False, capture_output=True, text=True
    )
    assert "Permission denied" in denied.stderr
    readable = subprocess.run(as_user(["test", "-r", str(Path(__file__).resolve())], {}), check=False)
    assert readable.returncode == 0


@pytest.mark.parametrize("way", [list, lambda argv: as_user(argv, {})], ids=["root", "user"])
def test_a_start_of_qemu_counts_as_a_boot_and_a_question_to_it_does_not(
    private_host: Path, way: Callable[[list[str]], list[str]]
) -> None:
    before = boots.count(private_host)
    assert "version" in output(*way([str(boots.QEMU), "--version"]))
    assert boots.count(private_host) == before
    started = subprocess.Popen(way([str(boots.QEMU), "-accel", "tcg", "-display", "none", "-nodefaults", "-S"]))
    try:
        until(lambda: boots.count(private_host) == before + 1, Deadline.after(30), "the boot to be counted")
        with pytest.raises(subprocess.TimeoutExpired):  # it found its firmware
            started.wait(2)
    finally:
        started.kill()
        started.wait()
