"""What cannot work, found before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmctl.driver import Definition
from vmctl.errors import VmctlError
from vmctl.knobs import Fault, refusal
from vmctl.spec import MIB
from vmctl_virtualbox import answers, knobs, networks
from vmctl_virtualbox.hardware import NICS
from vmctl_virtualbox.vboxmanage import VBoxManage

OLDEST = (6, 1)
LEAST_MEMORY = 4 * MIB
LOAD_DRIVER = "sudo modprobe vboxdrv   (not found: sudo apt-get install virtualbox-dkms, or sudo /sbin/vboxconfig)"
# Since Linux 6.12, KVM takes VT-x/AMD-V when its module is loaded (``kvm.enable_virt_at_load``, on by default) and
# VirtualBox up to 7.2.8 then cannot start a machine. VirtualBox 7.2.10 and later use the processor through KVM's
# enabling of it, and fail where that option is off. Before Linux 6.12, KVM holds it only while one of its machines
# runs.
KERNEL_TAKES_AT_LOAD = (6, 12)
VIRTUALBOX_RELIES_ON_KVM = (7, 2, 10)
KVM_MODULES = {"vmx": "kvm_intel", "svm": "kvm_amd"}
YES = "Y"


def unusable(door: VBoxManage, *, forced: bool) -> str:
    """Why VirtualBox cannot be used on this host, or "". Never raises."""
    try:
        version = door.version()
    except VmctlError as error:
        return f"{error.brief} ({error.hint})" if error.hint else error.brief
    if version.numbers[:2] < OLDEST:
        return f"VirtualBox {version} is too old; vmctl needs 6.1 or newer"
    if version.warning and not forced:
        return f"{version.warning} ({LOAD_DRIVER})"
    problem = None if forced else kvm_conflict(kvm_facts(), version.numbers)
    return f"{problem.reason} ({problem.hint})" if problem else ""


def check(door: VBoxManage, definition: Definition, *, present_disk: int) -> None:
    """Refuse what cannot work; ``present_disk`` is the size of an existing machine's disk, else 0.

    Raises:
        UsageError: one or more faults in the machine, all in one error.
        VmctlError: this host cannot start VirtualBox machines now.
    """
    found = list(faults(door, definition))
    wanted = definition.spec.disk
    if wanted is not None and wanted < present_disk:
        found.append(Fault("disk", f"{wanted} bytes is less than it has now ({present_disk}); a disk cannot shrink"))
    if found:
        raise refusal(definition.spec, found)
    forced = knobs.read(definition.spec).force
    if problem := unusable(door, forced=forced):
        raise VmctlError(
            "VirtualBox cannot start machines here",
            details=problem,
            hint="see the advice above, or set `virtualbox: {force: true}` to try anyway",
        )


def faults(door: VBoxManage, definition: Definition) -> Iterator[Fault]:
    """All that is wrong with a machine's definition."""
    spec = definition.spec
    in_section = list(knobs.faults(spec))
    yield from in_section
    if spec.memory < LEAST_MEMORY:
        yield Fault("memory", f"{spec.memory} bytes is less than VirtualBox's minimum, 4 MiB")
    if len(definition.nics) >= NICS:
        yield Fault("networks", f"VirtualBox machines have at most {NICS} NICs, of which vmctl uses the first")
    yield from _forwards(definition)
    yield from _shares(definition)
    if not in_section and definition.nics:
        yield from _networks(door, definition)


def _forwards(definition: Definition) -> Iterator[Fault]:
    asked = [forward for forward in definition.forwards if forward.name != "ssh"]
    for index, forward in enumerate(asked):
        if ":" in forward.host_ip:
            yield Fault(f"ports.{index}", f"{forward.host_ip}: VirtualBox's NAT forwards from IPv4 addresses only")


def _shares(definition: Definition) -> Iterator[Fault]:
    for share in definition.shares:
        if share.kind != "vboxsf":
            yield Fault(
                "synced_folders", f"{share.host}: {share.kind} is not possible with VirtualBox; use vboxsf or rsync"
            )
        elif not share.host.is_dir():
            yield Fault("synced_folders", f"{share.host}: no such directory")


def _networks(door: VBoxManage, definition: Definition) -> Iterator[Fault]:
    chosen = knobs.read(definition.spec)
    own = list(networks.host_interfaces(door("list", "hostonlyifs")))
    bridgeable = door("list", "bridgedifs")
    yield from networks.faults(
        definition,
        chosen,
        can=networks.can_hostonly(),
        conf=networks.networks_conf(),
        others=[*own, *networks.host_interfaces(bridgeable)],
        own={interface.name for interface in own},
    )
    names = [record.get("Name", "") for record in answers.records(bridgeable)]
    for network, how in chosen.networks.items():
        wanted = how.removeprefix(knobs.BRIDGED)
        if how != wanted and wanted not in names:
            yield Fault(
                "virtualbox.networks", f"{network}: the host has no interface {wanted!r} (it has: {', '.join(names)})"
            )


@dataclass(frozen=True, kw_only=True)
class KvmFacts:
    """What a Linux host shows of who holds the processor's virtualization: KVM and VirtualBox may want it both."""

    module: str = ""
    """The KVM module for this processor that is loaded: kvm_intel, kvm_amd or ""."""
    kernel: tuple[int, int] = (0, 0)
    at_load: bool | None = None
    """Whether KVM takes the processor at once; None = this kernel has no such option."""
    users: int = 0
    """How many virtual machines (or others) use the module."""


@dataclass(frozen=True)
class KvmConflict:
    """Why a machine would not start beside KVM, and the command that helps."""

    reason: str
    hint: str


def kvm_facts(root: Path = Path("/")) -> KvmFacts:
    """The facts of the host whose file system starts at ``root``; the empty ones where it is no Linux."""
    cpu = set(_text(root / "proc/cpuinfo").split())
    module = next((module for flag, module in KVM_MODULES.items() if flag in cpu), "")
    if not module or not (root / "sys/module" / module).is_dir():
        return KvmFacts()
    at_load = _text(root / "sys/module/kvm/parameters/enable_virt_at_load")
    users = _text(root / "sys/module" / module / "refcnt")
    return KvmFacts(
        module=module,
        kernel=_kernel_version(_text(root / "proc/sys/kernel/osrelease")),
        at_load=at_load == YES if at_load else None,
        users=int(users) if users.isdigit() else 0,
    )


def kvm_conflict(facts: KvmFacts, version: tuple[int, int, int]) -> KvmConflict | None:
    """Why VirtualBox of this version could not start a machine here; None = it could."""
    if not facts.module:
        return None
    unload = f"sudo modprobe -r {facts.module}"
    if version >= VIRTUALBOX_RELIES_ON_KVM:
        if facts.kernel >= KERNEL_TAKES_AT_LOAD and facts.at_load is False:
            return KvmConflict(
                f"{facts.module} is loaded with enable_virt_at_load off, which VirtualBox 7.2.10 and later cannot use",
                "remove `kvm.enable_virt_at_load=0` (kernel command line, /etc/modprobe.d), then: "
                f"{unload} && sudo modprobe {facts.module}",
            )
        return None
    if facts.users:
        return KvmConflict(f"KVM is running virtual machines ({facts.module} is in use)", "stop them first: virsh list")
    if facts.kernel >= KERNEL_TAKES_AT_LOAD and facts.at_load is not False:
        return KvmConflict(
            f"{facts.module} holds the processor's virtualization since it was loaded (Linux 6.12 and later)",
            f"{unload}   (for good: upgrade VirtualBox to 7.2.10, or add kvm.enable_virt_at_load=0 to the kernel)",
        )
    return None


def _kernel_version(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
