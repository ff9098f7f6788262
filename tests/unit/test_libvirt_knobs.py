from __future__ import annotations

from typing import Any

import pytest

from vmctl.spec import BoxRef, MachineSpec
from vmctl_libvirt import knobs


def spec(**options: Any) -> MachineSpec:
    return MachineSpec(name="web", box=BoxRef(address="debian-12"), options={"libvirt": options})


BAD: list[tuple[str, Any, str]] = [
    ("machin", "q35", "unknown key, did you mean 'machine'?"),
    ("zzz", 1, "unknown key; known: uri, machine, cpu"),
    ("machine", 35, "expected a plain name, got the number 35"),
    ("machine", "q35 -S", "'q35 -S': must be a plain name"),
    ("cpu", "host,+vmx", "'host,+vmx': must be a plain name"),
    ("nested", "yes", "expected true or false, got 'yes', did you mean true?"),
    ("disk_bus", "ide", "expected one of virtio, scsi, sata"),
    ("disk_cache", "fast", "expected one of default, none, writeback, writethrough, directsync, unsafe"),
    ("video", "cirrus", "expected one of none, vga, virtio, qxl, bochs"),
    ("firmware", "efi", "expected one of bios, uefi"),
    ("user_network", "nat", "expected one of slirp, passt"),
    ("management_network", "default'/>", "'default'/>': must be a plain name"),
    ("uri", "system", "must be auto or a libvirt URI such as qemu:///system"),
    ("xml", "<domain>", "is not well-formed XML with one root element: "),
    ("xml", "<a/><b/>", "is not well-formed XML with one root element: "),
    ("xml", "<name>other</name>", "must not change <name>, by which vmctl finds its machines"),
    ("xml", "<domain><uuid/></domain>", "must not change <uuid>"),
    ("xml", '<!DOCTYPE d [<!ENTITY a "b">]><domain>&a;</domain>', "must not hold a document type"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_knob_is_told(name: str, value: Any, message: str) -> None:
    (fault,) = knobs.faults(spec(**{name: value}))
    assert fault.path == f"libvirt.{name}"
    assert fault.message.startswith(message)


def test_all_faults_are_told_at_once() -> None:
    assert [each.path for each in knobs.faults(spec(nested=1, cpus=2, video="x"))] == [
        "libvirt.nested",
        "libvirt.cpus",
        "libvirt.video",
    ]


def test_good_knobs_are_read() -> None:
    machine = spec(cpu="host-model", nested=False, disk_bus="sata", xml="<iothreads>1</iothreads>", machine=None)
    assert not list(knobs.faults(machine))
    assert knobs.read(machine) == knobs.LibvirtKnobs(
        cpu="host-model", nested=False, disk_bus="sata", xml="<iothreads>1</iothreads>"
    )


def test_no_section_means_the_defaults() -> None:
    assert knobs.read(MachineSpec(name="web", box=BoxRef(address="debian-12"))) == knobs.LibvirtKnobs()
