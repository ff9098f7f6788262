"""What a machine is made of and runs on, decided before libvirt is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vmctl.driver import Definition, Disk
from vmctl.errors import UsageError
from vmctl.spec import MachineSpec
from vmctl_libvirt import checks, knobs
from vmctl_libvirt.domain import Platform
from vmctl_libvirt.first_nic import ssh_forward
from vmctl_libvirt.identity import DomainMark
from vmctl_libvirt.kvm import Evidence
from vmctl_libvirt.libvirt_connection import Abilities


@dataclass(frozen=True)
class DiskLayer:
    """What a machine's disk stands on; the size in bytes is the new disk's."""

    path: str
    format: str
    size: int


def choose_platform(
    connection: Any, abilities: Abilities, evidence: Evidence, arch: str
) -> tuple[Platform, str]:  # fmt: skip
    """Where a machine of this architecture runs, and why not with KVM ("" = with it)."""
    why_not = ""
    if abilities.runs_guests:
        why_not = evidence.why_not(arch, as_user=abilities.is_session) if abilities.is_local else ""
        why_not = why_not or checks.why_not_listed(connection, arch)
    uses_kvm = abilities.runs_guests and not why_not
    platform = Platform(
        type="kvm" if uses_kvm else "qemu",
        arch=arch,
        host_flag=evidence.flag() if abilities.is_local else "",
        is_session=abilities.is_session,
        is_local=abilities.is_local,
    )
    return platform, why_not


def mark_for(definition: Definition, arch: str, firmware: str) -> DomainMark:
    """What vmctl writes on the machine."""
    ssh = ssh_forward(definition, knobs.read(definition.spec))
    return DomainMark(
        tag=definition.tag, ssh=ssh, mac=definition.mac, arch=arch, firmware=firmware, ssh_port=definition.spec.ssh_port
    )


def disk_size(spec: MachineSpec, base: Disk) -> int:
    """Size of the machine's root disk.

    Raises:
        UsageError: the Vmfile wants less than the box has.
    """
    if spec.disk is not None and spec.disk < base.virtual_size:
        place = f"{spec.places['disk']}: " if "disk" in spec.places else ""
        raise UsageError(
            f"{place}machines.{spec.name}.disk: {spec.disk} bytes is less than the box's {base.virtual_size}",
            hint="raise `disk:`, or leave it out to take the box's size",
        )
    return spec.disk or base.virtual_size
