"""Whether memory is saved, by libvirts that save it beside live folders and by those that refuse."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from vmctl.errors import WrongState
from vmctl_libvirt import freezing
from vmctl_libvirt.libvirt_errors import library

SHARE = """<filesystem type="mount"><driver type="{}"/><source dir="/src"/><target dir="src"/></filesystem>"""
DOMAIN = """<domain type="kvm"><name>web</name><devices>{}<disk type="file" device="disk">
<source file="/pool/old.qcow2"/><target dev="vda"/></disk></devices></domain>"""
DISK_ONLY = library().VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY


@dataclass
class ADomain:
    """One of a libvirt that takes whatever snapshot it is asked for."""

    devices: str
    made: list[tuple[bool, bool]] = field(default_factory=list)
    """For each: whether with memory, and whether of disks alone."""

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802  libvirt's name
        return DOMAIN.format(self.devices)

    def snapshotCreateXML(self, xml: str, flags: int) -> None:  # noqa: N802  libvirt's name
        self.made.append(("/pool/memory" in xml, bool(flags & DISK_ONLY)))


@pytest.mark.parametrize(
    ("devices", "memory"), [("", True), (SHARE.format("path"), True), (SHARE.format("virtiofs"), False)]
)
def test_memory_is_saved_unless_a_live_folder_is_plugged_in(devices: str, *, memory: bool) -> None:
    domain = ADomain(devices)
    assert freezing.freeze_live(domain, ("/pool/new.qcow2",), "/pool/memory") is memory
    assert domain.made == [(memory, not memory)]


def test_memory_that_is_needed_is_refused_with_nothing_changed() -> None:
    domain = ADomain(SHARE.format("virtiofs"))
    with pytest.raises(WrongState, match="cannot be saved as it is"):
        freezing.freeze_live(domain, ("/pool/new.qcow2",), "/pool/memory", or_disks=False)
    assert domain.made == []
