"""Making, changing and removing machines: what the driver is asked for, as calls of libvirt in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vmctl import interrupt
from vmctl.driver import Definition, Disk, Host, State, Tag
from vmctl.errors import VmctlError, WrongState
from vmctl.flock import held, is_held
from vmctl.powers import Exported, Layer
from vmctl_libvirt import (
    checks,
    domain_edit,
    knobs,
    machines,
    networks,
    own_virtiofsd,
    share_locks,
    shares,
    snapshot_tree,
)
from vmctl_libvirt.box_storage import BoxStorage
from vmctl_libvirt.domain import Parts, Platform, domain_xml
from vmctl_libvirt.domain_edit import Edit
from vmctl_libvirt.domain_mark import DomainMark
from vmctl_libvirt.first_nic import ssh_forward
from vmctl_libvirt.kvm import Evidence
from vmctl_libvirt.layer_keeper import DomainLayerKeeper
from vmctl_libvirt.layer_storage import LayerStorage
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.libvirt_errors import library
from vmctl_libvirt.shares import SharedFolder
from vmctl_libvirt.storage import Storage

ATTEMPTS = 5
"""How often a machine is begun whose box's copies others remove at the same time."""


@dataclass(frozen=True)
class DiskLayer:
    """What a machine's disk stands on; the size in bytes is the new disk's."""

    path: str
    format: str
    size: int


@dataclass(frozen=True)
class Builder:
    """Acts on an open connection. Methods raise ``libvirt.libvirtError``."""

    connection: Any
    abilities: Abilities
    host: Host
    evidence: Evidence
    warn_once: Callable[[str], None]

    @property
    def storage(self) -> Storage:
        """The pool."""
        return Storage(self.connection, self.abilities)

    @property
    def keeper(self) -> DomainLayerKeeper:
        """The layers in the pool."""
        return DomainLayerKeeper(
            self.connection, LayerStorage(self.connection, self.abilities), self.abilities.runs_guests
        )

    def create(self, definition: Definition, base: Disk) -> None:
        """As ``LibvirtDriver.create``."""
        if machines.find_ours(self.connection, definition.name, definition.tag) is not None:
            self._ensure_networks(definition)
            return
        if self._lacks_firmware(definition, base):
            raise checks.no_uefi(str(definition.spec.box))
        mark, size = mark_for(definition, base.arch, base.firmware), checks.disk_size(definition.spec, base)
        if base.layer:
            with layers_held(self.host):
                self.make(definition, mark, self.of_layer(base.layer, size))
            return
        self._make_on_box(definition, mark, base, size)

    def _make_on_box(self, definition: Definition, mark: DomainMark, base: Disk, size: int) -> None:
        """Make the machine on copies of its box, and on new ones where somebody prunes those before it stands there."""
        for left in reversed(range(ATTEMPTS)):
            root = DiskLayer(self._base(base), base.format, size)
            more = [DiskLayer(self._base(disk), disk.format, disk.virtual_size) for disk in base.further]
            try:
                self.make(definition, mark, [root, *more])
            except (library().libvirtError, WrongState):
                if not left or all(self.storage.size(layer.path) is not None for layer in (root, *more)):
                    raise
            else:
                return

    def of_layer(self, key: str, size: int) -> list[DiskLayer]:
        """What a machine on a layer stands on; its root disk shall have ``size`` at least.

        Raises:
            WrongState: there is no such layer.
        """
        below = [self._as_it_is(path) for path in self.keeper.disks(key)]
        if not below:
            raise WrongState(f"libvirt has no layer {key[:12]}", hint="vmctl up --cold")
        return [replace(below[0], size=max(size, below[0].size)), *below[1:]]

    def _as_it_is(self, path: str) -> DiskLayer:
        return DiskLayer(path, "qcow2", int(self.connection.storageVolLookupByPath(path).info()[1]))

    def _lacks_firmware(self, definition: Definition, base: Disk) -> bool:
        chosen = knobs.read(definition.spec)
        if (chosen.firmware or base.firmware) != checks.UEFI or not self.abilities.runs_guests:
            return False
        return not checks.is_uefi_offered(self.connection, base.arch, chosen.machine)

    @property
    def _boxes(self) -> BoxStorage:
        return BoxStorage(self.connection, self.abilities)

    def _box_lock(self, digest: str) -> Path:
        return self.host.home / "locks" / f"libvirt-{digest}"

    def _base(self, disk: Disk) -> str:
        with held(self._box_lock(disk.digest)):
            return self._boxes.base(disk)

    def box_copies(self) -> tuple[Layer, ...]:
        """As ``LibvirtDriver.box_copies``."""
        return tuple(self._boxes.copies(in_domains=domain_edit.all_volumes(self.connection)))

    def remove_box_copy(self, digest: str) -> bool:
        """As ``LibvirtDriver.remove_box_copy``."""
        with held(self._box_lock(digest)):
            return self._boxes.remove_copies(digest, in_domains=domain_edit.all_volumes(self.connection))

    def remove_leftovers(self) -> tuple[Layer, ...]:
        """As ``LibvirtDriver.remove_leftovers``."""
        with layers_held(self.host):
            layers = self.keeper.remove_leftovers()
            copies = self._boxes.remove_incomplete(
                in_domains=domain_edit.all_volumes(self.connection), busy=lambda digest: is_held(self._box_lock(digest))
            )
            return (*layers, *copies)

    def clone(self, definition: Definition, source: str, tag: Tag) -> None:
        """As ``LibvirtDriver.clone``."""
        if machines.find_ours(self.connection, definition.name, definition.tag) is not None:
            return
        domain, mark = machines.must_find(self.connection, source, tag)
        if domain.isActive():
            raise WrongState(f"the machine {source!r} is running", hint="vmctl halt")
        disks = self.storage.own(domain_edit.disks(domain))
        below = [self._as_it_is(path) for path in disks]
        self.make(definition, mark_for(definition, mark.arch, mark.firmware), below)

    def export(self, name: str, tag: Tag, directory: Path) -> Exported:
        """As ``LibvirtDriver.export``, each disk flattened into one qcow2.

        Raises:
            VmctlError: qemu-img failed, or the disk is full.
        """
        domain, _ = machines.must_find(self.connection, name, tag)
        storage = self.storage
        targets = []
        for number, path in enumerate(storage.own(domain_edit.disks(domain)), 1):
            targets.append(directory / f"disk-{number}.qcow2")
            storage.export(path, targets[-1])
        return Exported(disks=tuple(targets))

    def make(self, definition: Definition, mark: DomainMark, below: Sequence[DiskLayer], *, uuid: str = "") -> None:
        """Make the machine with one overlay on each layer; nothing is left of it when that fails."""
        storage, name = self.storage, definition.name
        try:
            disk, *further = (
                storage.overlay(name, layer.path, layer.format, layer.size, number=number)
                for number, layer in enumerate(below, 1)
            )
            parts = Parts(
                uuid=uuid,
                disk=disk,
                further=tuple(further),
                seed=storage.seed(name, definition.seed) if definition.seed else "",
                shares=self.shared_folders(definition),
            )
            self._define(definition, mark, parts)
            self._check_ground(below)
        except BaseException:
            with (
                interrupt.shielded(),
                suppress(library().libvirtError, VmctlError),
            ):  # what failed first matters
                self.destroy(definition.name, definition.tag)
            raise

    def _check_ground(self, below: Sequence[DiskLayer]) -> None:
        """See that what the machine stands on was not removed meanwhile: nothing did stand on it until now.

        Raises:
            WrongState: somebody pruned it.
        """
        for layer in below:
            if self.storage.size(layer.path) is None:
                raise WrongState(f"{layer.path} was removed while a machine was being made on it", hint="vmctl up")

    def update(self, definition: Definition) -> None:
        """As ``LibvirtDriver.update``."""
        domain, mark = machines.must_find(self.connection, definition.name, definition.tag)
        if domain.isActive():
            raise WrongState(f"the machine {definition.name!r} is running", hint="vmctl reload")
        if machines.state_of(domain) is State.SAVED:
            raise WrongState(f"the machine {definition.name!r} is saved", hint="vmctl resume")
        storage, disk = self.storage, domain_edit.root_disk(domain)
        if definition.spec.disk is not None:
            storage.grow(disk, definition.spec.disk)
        parts = Parts(
            uuid=domain.UUIDString(),
            disk=disk,
            further=storage.own(domain_edit.disks(domain)[1:]),
            seed=storage.seed(definition.name, definition.seed) if definition.seed else "",
            shares=self.shared_folders(definition),
            snapshots=snapshot_tree.read(domain),
        )
        self._define(definition, mark_for(definition, mark.arch, mark.firmware), parts)
        self._prune_networks()

    def shared_folders(self, definition: Definition) -> tuple[SharedFolder, ...]:
        """The devices for a machine's shares."""
        if self.abilities.is_session:
            return shares.rootless_folders(definition, self.host.home)
        return shares.shared_folders(definition.shares, shares.program_directory(self.host.home))

    def _define(self, definition: Definition, mark: DomainMark, parts: Parts) -> None:
        text = domain_xml(definition, self.platform(mark.arch), mark, parts)
        self.connection.defineXML(Edit(tree=parts.snapshots).applied_to(text) if parts.snapshots.nodes else text)
        self._ensure_networks(definition)

    def destroy(self, name: str, tag: Tag) -> None:
        """As ``LibvirtDriver.destroy``."""
        found = machines.find_ours(self.connection, name, tag)
        if found is not None:
            machines.undefine(found[0], runs_guests=self.abilities.runs_guests)
        own_virtiofsd.release(share_locks.place(self.host.home), name)
        self.keeper.drop_half_made(name)
        self.storage.remove(name, used=domain_edit.all_volumes(self.connection))
        self._prune_networks()

    def _ensure_networks(self, definition: Definition) -> None:
        if definition.nics and networks.is_wired_by_libvirt(is_session=self.abilities.is_session):
            with held(self.host.home / "locks" / "libvirt-networks"):
                networks.ensure(self.connection, networks.subnets(definition), definition.tag.project)

    def _prune_networks(self) -> None:
        with held(self.host.home / "locks" / "libvirt-networks"):
            networks.prune(self.connection)

    def platform(self, arch: str) -> Platform:
        """Where machines of this architecture run; the user is told once where that is slow."""
        platform, why_not = choose_platform(self.connection, self.abilities, self.evidence, arch)
        if why_not:
            self.warn_once(f"machines are emulated, which is many times slower, because KVM cannot be used: {why_not}")
        return platform


def layers_held(host: Host) -> AbstractContextManager[None]:
    """Hold what keeps layers from being removed while a machine is put on one."""
    return held(host.home / "locks" / "libvirt-layers")


def choose_platform(connection: Any, abilities: Abilities, evidence: Evidence, arch: str) -> tuple[Platform, str]:
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
