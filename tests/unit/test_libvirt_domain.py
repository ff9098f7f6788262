from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from msgspec import structs

from vmctl.driver import Address, Definition, Forward, Nic, Tag
from vmctl.spec import GIB, BoxRef, MachineSpec
from vmctl_libvirt.checks import PASST_SINCE
from vmctl_libvirt.domain import Parts, Platform, domain_xml
from vmctl_libvirt.domain_mark import DomainMark
from vmctl_libvirt.libvirt_errors import library
from vmctl_libvirt.shares import SharedFolder

GOLDEN = Path(__file__).parents[1] / "data" / "domain"
KVM = Platform(type="kvm", arch="x86_64", host_flag="vmx")
TCG = Platform(type="qemu", arch="x86_64")
TAG = Tag(project="0a1b2c3d" * 4, machine="web", version="0.1.0", root="/home/me/shop & co")
MARK = DomainMark(
    tag=TAG, ssh=Address(host="127.0.0.1", port=2222), mac="52:54:00:0a:1b:2c", arch="x86_64", firmware="bios"
)
SSH = Forward(name="ssh", guest=22, host=2222, host_ip="127.0.0.1", protocol="tcp")
DISK = "/var/lib/libvirt/images/vmctl/shop-web-0a1b2c3d.qcow2"
SEED = "/var/lib/libvirt/images/vmctl/shop-web-0a1b2c3d-seed.iso"


def definition(knobs: dict[str, Any] | None = None, **changes: Any) -> Definition:
    spec = MachineSpec(name="web", box=BoxRef(address="debian-12"), memory=GIB, options={"libvirt": knobs or {}})
    made = Definition(
        name="shop-web-0a1b2c3d",
        tag=TAG,
        spec=spec,
        mac="52:54:00:0a:1b:2c",
        console=Path("/home/me/shop & co/.vmctl/machines/web/console.log"),
        forwards=(SSH,),
        network_prefix="shop-0a1b2c3d-",
    )
    return structs.replace(made, **changes)


def plain() -> str:
    return domain_xml(definition(), KVM, MARK, Parts(disk=DISK, seed=SEED))


PROGRAMS = "/home/me/.local/share/vmctl/libvirt"


def emulated() -> str:
    return domain_xml(definition(), TCG, MARK, Parts(disk=DISK, uuid="0e2d6b1a-52b8-4a1c-9a6f-3c8d54c8b7aa"))


def forwards_networks_shares() -> str:
    forwards = (SSH, Forward(name="", guest=53, host=5353, host_ip="0.0.0.0", protocol="udp"))  # noqa: S104  a case
    nics = (Nic(network="backend", mac="52:54:00:0a:1b:2d", ip="192.168.56.10", prefix=24),)
    shares = (
        SharedFolder(tag="vmctl0", host="/home/me/shop & co", binary=f"{PROGRAMS}/virtiofsd-1000-1000-1000-1000-rw"),
        SharedFolder(tag="vmctl1", host="/srv/<data>", binary=f"{PROGRAMS}/virtiofsd-1000-0-1000-0-ro"),
    )
    return domain_xml(definition(forwards=forwards, nics=nics), KVM, MARK, Parts(disk=DISK, seed=SEED, shares=shares))


def session_network_shares() -> str:
    nics = (Nic(network="backend", mac="52:54:00:0a:1b:2d", ip="192.168.56.10", prefix=24),)
    platform = Platform(type="kvm", arch="x86_64", host_flag="svm", is_session=True)
    live = f"{PROGRAMS}/live"
    shares = (
        SharedFolder(tag="vmctl0", host="/home/me/shop & co", socket=f"{live}/1a2b3c4d-0", guest=(1000, 1000)),
        SharedFolder(tag="vmctl1", host="/srv/<data>", socket=f"{live}/1a2b3c4d-1", guest=(1000, 100), read_only=True),
    )
    return domain_xml(definition(nics=nics), platform, MARK, Parts(disk=DISK, shares=shares))


def uefi_with_every_knob() -> str:
    knobs = {
        "machine": "pc-q35-7.2",
        "cpu": "Skylake-Client",
        "nested": True,
        "disk_bus": "scsi",
        "disk_cache": "unsafe",
        "video": "virtio",
        "firmware": "uefi",
    }
    return domain_xml(definition(knobs), KVM, MARK, Parts(disk=DISK, seed=SEED))


def management_network() -> str:
    mark = structs.replace(MARK, ssh=None)
    return domain_xml(definition({"management_network": "default"}), KVM, mark, Parts(disk=DISK))


def passt() -> str:
    return domain_xml(definition({"user_network": "passt"}), KVM, MARK, Parts(disk=DISK))


def remote_arm() -> str:
    platform = Platform(type="qemu", arch="aarch64", is_local=False)
    return domain_xml(definition(), platform, structs.replace(MARK, arch="aarch64"), Parts(disk=DISK))


def patched() -> str:
    patch = "<domain><devices><watchdog model='i6300esb'/></devices><vcpu>7</vcpu><iothreads>1</iothreads></domain>"
    return domain_xml(definition({"xml": patch}), KVM, MARK, Parts(disk=DISK))


CASES = [
    plain,
    emulated,
    forwards_networks_shares,
    session_network_shares,
    uefi_with_every_knob,
    management_network,
    passt,
    remote_arm,
    patched,
]


SINCE = {passt: PASST_SINCE}
"""The first libvirt that knows what a case needs."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_domain_xml_is_golden(case: Callable[[], str], golden: Callable[[Path, str], None]) -> None:
    golden(GOLDEN / f"{case.__name__}.xml", case())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_libvirt_accepts_the_xml(case: Callable[[], str]) -> None:
    """By libvirt's own parser and schema; what is newer than this libvirt, it refuses."""
    libvirt = library()
    connection = libvirt.open("test:///default")
    try:
        if connection.getLibVersion() < SINCE.get(case, 0):
            with pytest.raises(libvirt.libvirtError):
                connection.defineXMLFlags(case(), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
            return
        domain = connection.defineXMLFlags(case(), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        assert domain.name() == "shop-web-0a1b2c3d"
        domain.undefine()
    finally:
        connection.close()


def test_values_can_not_break_out_of_the_xml() -> None:
    evil = "/tmp/'/><disk type='file'/><!--\"&amp;"
    text = domain_xml(definition(console=Path(evil)), KVM, MARK, Parts(disk=evil))
    root = ET.fromstring(text)  # noqa: S314  what this test is about
    assert len(root.findall("devices/disk")) == 1
    assert root.find("devices/disk/source").attrib == {"file": evil}  # type: ignore[union-attr]
    assert root.find("devices/serial/source").attrib["path"] == evil  # type: ignore[union-attr]


def test_further_disks_stand_before_the_seed() -> None:
    text = domain_xml(definition(), KVM, MARK, Parts(disk=DISK, further=("/pool/b", "/pool/c"), seed=SEED))
    disks = ET.fromstring(text).findall("devices/disk")  # noqa: S314  our own text
    found = {disk.find("target").get("dev"): disk.find("source").get("file") for disk in disks}  # type: ignore[union-attr]
    assert found == {"vda": DISK, "vdb": "/pool/b", "vdc": "/pool/c", "vdd": SEED}
