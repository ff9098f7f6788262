"""The test host keeps its promises: the other integration tests rely on them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.host.ordinary_user import UID, as_user
from tests.host.private_dev import kvm_works

pytestmark = pytest.mark.integration


def output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_its_network_is_its_own(private_host: Path) -> None:
    devices = {device["ifname"] for device in json.loads(output("ip", "-json", "link"))}
    assert "lo" in devices
    assert not [name for name in devices if name != "lo" and not name.startswith(("virbr", "vnet"))]
    routes = json.loads(output("ip", "-json", "route"))
    assert not [route for route in routes if route["dst"] == "default"]
    assert Path("/etc/resolv.conf").read_text() == ""


def test_a_kvm_that_does_not_work_is_hidden(private_host: Path) -> None:
    assert Path("/dev/kvm").exists() <= kvm_works()


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
