"""A machine's definition → domain XML. Pure: it asks nobody, so golden files can hold it in place."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass, field

from vmctl import templates
from vmctl.driver import Definition
from vmctl_libvirt import shares
from vmctl_libvirt.domain_mark import NAMESPACE, DomainMark
from vmctl_libvirt.first_nic import FirstNic
from vmctl_libvirt.knobs import LibvirtKnobs, read
from vmctl_libvirt.networks import MulticastGroup, is_wired_by_libvirt, libvirt_name, mcast_group
from vmctl_libvirt.patch import apply_patch
from vmctl_libvirt.shares import SharedFolder
from vmctl_libvirt.snapshot_tree import SnapshotTree

KIB = 1024
CPU_MODES = ("host-passthrough", "host-model", "maximum")
DEFAULT_MACHINES = {"x86_64": "q35", "aarch64": "virt"}
TARGET_PREFIX = {"virtio": "vd", "scsi": "sd", "sata": "sd"}


@dataclass(frozen=True, kw_only=True)
class Platform:
    """Where the machine runs."""

    type: str
    """kvm or qemu (emulated)."""
    arch: str
    host_flag: str = ""
    """The host CPU's virtualization flag, "vmx" or "svm"; "" = none."""
    is_session: bool = False
    is_local: bool = True

    @property
    def is_x86(self) -> bool:
        """Whether it is a PC."""
        return self.arch in ("x86_64", "i686")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What was made for the machine before it is defined."""

    disk: str
    """Path of the overlay, as the hypervisor sees it."""
    further: tuple[str, ...] = ()
    """Paths of the overlays of the box's further disks."""
    seed: str = ""
    shares: tuple[SharedFolder, ...] = ()
    uuid: str = ""
    """Of the machine that is redefined; "" = a new one."""
    snapshots: SnapshotTree = field(default_factory=SnapshotTree)
    """What the machine that is redefined has of them."""


@dataclass(frozen=True)
class _Disk:
    path: str
    format: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class _Nic:
    mac: str
    libvirt_network: str = ""
    group: MulticastGroup | None = None


@dataclass(frozen=True)
class _Cpu:
    mode: str
    model: str = ""
    nested: str = ""
    flag: str = ""


def domain_xml(definition: Definition, platform: Platform, mark: DomainMark, parts: Parts) -> str:
    """The XML to define. ``definition`` passed ``check`` before."""
    knobs = read(definition.spec)
    machine = knobs.machine or DEFAULT_MACHINES.get(platform.arch, "virt")
    text = templates.render(
        "vmctl_libvirt",
        "domain.xml.j2",
        name=definition.name,
        uuid=parts.uuid,
        namespace=NAMESPACE,
        mark=mark.attributes(),
        platform=platform,
        machine=machine,
        uefi=(knobs.firmware or mark.firmware) == "uefi",
        cpus=definition.spec.cpus,
        memory_kib=-(-definition.spec.memory // KIB),
        cpu=_cpu(knobs, platform),
        disks=list(_disks(parts, knobs.disk_bus)),
        bus=knobs.disk_bus,
        cache=knobs.disk_cache,
        shares=parts.shares,
        notes=[shares.note_attributes(share) for share in parts.shares if share.socket],
        notes_namespace=shares.NOTES_NAMESPACE,
        first_nic=FirstNic.of(definition, knobs, machine),
        nics=list(_nics(definition, platform)),
        console=str(definition.console) if platform.is_local else "",
        video=knobs.video,
    )
    return apply_patch(text, knobs.xml) if knobs.xml else text


def _cpu(knobs: LibvirtKnobs, platform: Platform) -> _Cpu:
    mode = knobs.cpu or ("host-passthrough" if platform.type == "kvm" else "maximum")
    model = "" if mode in CPU_MODES else mode
    nested = {True: "require", False: "disable", None: ""}[knobs.nested] if platform.is_x86 else ""
    flag = platform.host_flag if platform.type == "kvm" and platform.host_flag else "svm"  # QEMU emulates svm
    return _Cpu(mode=mode, model=model, nested=nested, flag=flag)


def _disks(parts: Parts, bus: str) -> Iterator[_Disk]:
    targets = (f"{TARGET_PREFIX[bus]}{letter}" for letter in string.ascii_lowercase)
    for path, target in zip((parts.disk, *parts.further), targets, strict=False):
        yield _Disk(path, "qcow2", target)
    if parts.seed:  # a plain disk: no guest lacks the driver for it, and no CD-ROM is probed at boot
        seed_target = f"{TARGET_PREFIX[bus]}{string.ascii_lowercase[1 + len(parts.further)]}"
        yield _Disk(parts.seed, "raw", seed_target, read_only=True)


def _nics(definition: Definition, platform: Platform) -> Iterator[_Nic]:
    for nic in definition.nics:
        if is_wired_by_libvirt(is_session=platform.is_session):
            name = libvirt_name(definition.network_prefix, nic.network, isolated=nic.isolated)
            yield _Nic(nic.mac, libvirt_network=name)
        else:
            yield _Nic(nic.mac, group=mcast_group(definition.network_prefix, nic.network))
