"""The driver: vmctl's protocol on one side, libvirt on the other. The modules beside it do the work.

They are imported where they are used: `vmctl status` and `vmctl ssh` need few of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmctl.driver import Address, Definition, Disk, Features, Host, Observed, Tag
from vmctl.powers import Exported, Layer, Snapshot
from vmctl.spec import MachineSpec
from vmctl_libvirt import machines, share_locks
from vmctl_libvirt.kvm import Evidence
from vmctl_libvirt.libvirt_connection import LibvirtConnection, why_unusable
from vmctl_libvirt.uris import AUTO

if TYPE_CHECKING:
    from vmctl_libvirt.building import Builder
    from vmctl_libvirt.shares import ShareKinds
    from vmctl_libvirt.snapshots import DomainSnapshotter

FORMATS = ("qcow2", "raw")


class LibvirtDriver:
    """Machines by libvirt: QEMU/KVM, local or on another host, in system or session mode."""

    name = "libvirt"

    def __init__(self, host: Host, *, evidence: Evidence | None = None) -> None:
        self._host = host
        self._connection = LibvirtConnection(str(host.options.get("uri") or AUTO), made_at=host.where)
        self._evidence = evidence or Evidence()
        self._warned: set[str] = set()
        self._warned_lock = threading.Lock()
        self._live = share_locks.place(host.home)

    @property
    def features(self) -> Features:
        """What this connection can do."""
        offer = self._offer
        return Features(
            formats=FORMATS, folders=offer.kinds, several_disks=True, no_folders=offer.why_not, folders_by=offer.remedy
        )

    @cached_property
    def _offer(self) -> ShareKinds:
        from vmctl_libvirt import shares

        return shares.offer(self._connection.abilities, self._host.home)

    @property
    def where(self) -> str:
        """The URI that ``auto`` turned out to be."""
        return self._connection.abilities.uri

    def features_of(self, spec: MachineSpec) -> Features:
        """What this connection can do for one machine, whose knobs may change NIC 1."""
        from vmctl_libvirt import first_nic, shares

        return first_nic.features(shares.features(self.features, spec.folders, self._connection.abilities), spec)

    def usable(self) -> str:
        """Why libvirt cannot be used here, or ""."""
        return why_unusable(self._connection.wanted)

    def check(self, definition: Definition) -> None:
        """Refuse what cannot work, all faults of the machine at once."""
        from vmctl.knobs import refusal
        from vmctl_libvirt import checks

        found = list(checks.offline(definition, self._connection.wanted))
        found += self._connection.run(
            lambda connection: list(checks.faults(definition, connection, self._connection, self.features)),
            f"check {definition.name}",
        )
        if found:
            raise refusal(definition.spec, found)
        if device := checks.leak(definition, self._connection):
            self._warn_once(
                f"in session mode, networks between machines are multicast; theirs leaves this host by {device}",
                f"{checks.KEEP_LOCAL}    # keeps it here",
            )

    def create(self, definition: Definition, base: Disk) -> None:
        """Make the machine, stopped; finished halves of an earlier attempt are used or replaced."""
        self._connection.run(
            lambda connection: self._builder(connection).create(definition, base), f"create {definition.name}"
        )

    def update(self, definition: Definition) -> None:
        """Redefine a stopped machine, keeping its disks and its identity in libvirt."""
        self._connection.run(
            lambda connection: self._builder(connection).update(definition), f"change {definition.name}"
        )

    def start(self, name: str, tag: Tag) -> None:
        """Start, restore or unpause."""
        guests = self._connection.abilities.runs_guests
        self._connection.run(
            lambda connection: machines.start(connection, name, tag, runs_guests=guests), f"start {name}"
        )

    def stop(self, name: str, tag: Tag, *, force: bool = False) -> None:
        """Press the power button (ACPI) and return, or cut the power."""
        self._connection.run(lambda connection: machines.stop(connection, name, tag, force=force), f"stop {name}")
        if force:
            from vmctl_libvirt import own_virtiofsd

            own_virtiofsd.release(self._live, name)

    def suspend(self, name: str, tag: Tag) -> None:
        """Save the memory to disk; with a live share (virtiofs) it is kept in RAM, and the machine is PAUSED."""
        saved = self._connection.run(lambda connection: machines.suspend(connection, name, tag), f"suspend {name}")
        if not saved:
            self._host.warn(
                f"{name} is frozen in memory, not saved to disk, because it has a live folder (virtiofs);"
                " it does not survive a restart of this host",
                "vmctl halt    # where that matters",
            )

    def destroy(self, name: str, tag: Tag) -> None:
        """Remove the machine, its volumes, its saved memory, and the networks that nobody else uses."""
        self._connection.run(lambda connection: self._builder(connection).destroy(name, tag), f"destroy {name}")

    def states(self) -> Mapping[str, Observed]:
        """All machines with vmctl's mark."""
        found = self._connection.run(lambda connection: dict(machines.observe_all(connection)), "list its machines")
        return {name: share_locks.told_of(observed, self._live, name) for name, observed in found.items()}

    def observe(self, name: str) -> Observed | None:
        """One machine, if it bears vmctl's mark."""
        found = self._connection.run(lambda connection: machines.observe(connection, name), f"tell the state of {name}")
        return share_locks.told_of(found, self._live, name) if found else None

    def address(self, name: str, tag: Tag) -> Address | None:
        """Where SSH answers, as soon as it is known."""
        from vmctl_libvirt import first_nic

        return self._connection.run(
            lambda connection: first_nic.address_of(connection, name, tag), f"tell the address of {name}"
        )

    def snapshots(self, name: str, tag: Tag) -> tuple[Snapshot, ...]:
        """The machine's snapshots, parents first."""
        return self._connection.run(
            lambda connection: self._snapshotter(connection, name, tag).all(), f"list the snapshots of {name}"
        )

    def save_snapshot(self, name: str, tag: Tag, snapshot: str, *, replace: bool = False, note: str = "") -> Snapshot:
        """Keep the present state; the memory as well, unless a live share (virtiofs) forbids that."""
        return self._connection.run(
            lambda connection: self._snapshotter(connection, name, tag).save(snapshot, replacing=replace, note=note),
            f"save a snapshot of {name}",
        )

    def restore_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Go back to a snapshot; a running machine is cut off first."""
        self._connection.run(
            lambda connection: self._snapshotter(connection, name, tag).restore(snapshot),
            f"restore a snapshot of {name}",
        )

    def remove_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Forget a snapshot; what builds on it is kept."""
        self._connection.run(
            lambda connection: self._snapshotter(connection, name, tag).remove(snapshot), f"delete a snapshot of {name}"
        )

    def layers(self) -> tuple[Layer, ...]:
        """The layers in the pool."""
        return self._connection.run(lambda connection: self._builder(connection).keeper.all(), "list the layers")

    def freeze(self, name: str, tag: Tag, key: str) -> bool:
        """Put new overlays on the machine's disks, and keep those below as a layer."""
        return self._freeze(name, tag, key, memory=False)

    def keep_memory(self, name: str, tag: Tag, key: str) -> bool:
        """As ``freeze``, with the machine's memory of the same moment."""
        return self._freeze(name, tag, key, memory=True)

    def _freeze(self, name: str, tag: Tag, key: str, *, memory: bool) -> bool:
        from vmctl_libvirt.building import layers_held

        with layers_held(self._host):
            return self._connection.run(
                lambda connection: self._builder(connection).keeper.freeze(name, tag, key, memory=memory),
                f"keep the {'memory' if memory else 'disks'} of {name}",
            )

    def memory_key(self, definition: Definition, base: Disk) -> str:
        """Digest of the machine's hardware, and of the versions of all that restores it."""
        from vmctl_libvirt import thawing

        return self._connection.run(
            lambda connection: thawing.memory_key(self._builder(connection), definition, base),
            f"look for kept memory of {definition.name}",
        )

    def thaw(self, definition: Definition, key: str, word: Callable[[], bytes]) -> bool:
        """Make the machine from its kept memory, running, with its live folders."""
        from vmctl_libvirt import thawing

        return self._connection.run(
            lambda connection: thawing.thaw(self._builder(connection), definition, key, word),
            f"restore {definition.name} from its kept memory",
        )

    def detach_shares(self, name: str, tag: Tag) -> bool:
        """Take the live folders out of a running machine."""
        from vmctl_libvirt import live_shares

        abilities = self._connection.abilities
        return self._connection.run(
            lambda connection: live_shares.detach_from(connection, name, tag, abilities),
            f"take the live folders out of {name}",
        )

    def attach_shares(self, name: str, tag: Tag) -> None:
        """Give a running machine back the live folders that were taken out."""
        from vmctl_libvirt import live_shares

        self._connection.run(
            lambda connection: live_shares.attach_to(connection, name, tag), f"give {name} its live folders"
        )

    def remove_layer(self, key: str) -> bool:
        """Remove a layer, and what machines wrote for it that are gone."""
        from vmctl_libvirt.building import layers_held

        with layers_held(self._host):
            return self._connection.run(
                lambda connection: self._builder(connection).keeper.remove(key), "remove a layer"
            )

    def clone(self, definition: Definition, source: str, tag: Tag) -> None:
        """Make a machine whose disks are overlays on those of ``source``."""
        self._connection.run(
            lambda connection: self._builder(connection).clone(definition, source, tag),
            f"copy {source} to {definition.name}",
        )

    def export(self, name: str, tag: Tag, directory: Path) -> Exported:
        """Write a stopped machine's disks as qcow2 files."""
        return self._connection.run(
            lambda connection: self._builder(connection).export(name, tag, directory), f"export {name}"
        )

    def box_copies(self) -> tuple[Layer, ...]:
        """The pool's copies of boxes."""
        return self._connection.run(
            lambda connection: self._builder(connection).box_copies(), "list the copies of boxes"
        )

    def remove_box_copy(self, key: str) -> bool:
        """Delete the pool's copies of an image that nothing stands on."""
        return self._connection.run(
            lambda connection: self._builder(connection).remove_box_copy(key), "remove a copy of a box"
        )

    def remove_leftovers(self) -> tuple[Layer, ...]:
        """Go on with removals of layers and copies of boxes that were killed, and remove what killed uploads left."""
        return self._connection.run(
            lambda connection: self._builder(connection).remove_leftovers(), "remove what killed commands left"
        )

    def close(self) -> None:
        """Close the connection, if open; the next call opens it again."""
        self._connection.close()

    def _builder(self, connection: Any) -> Builder:
        from vmctl_libvirt.building import Builder

        return Builder(connection, self._connection.abilities, self._host, self._evidence, self._warn_once)

    def _snapshotter(self, connection: Any, name: str, tag: Tag) -> DomainSnapshotter:
        from vmctl_libvirt.snapshots import DomainSnapshotter

        return DomainSnapshotter.of(connection, self._connection.abilities, name, tag)

    def _warn_once(self, text: str, hint: str = "") -> None:
        with self._warned_lock:
            is_new = text not in self._warned
            self._warned.add(text)
        if is_new:
            self._host.warn(text, hint)
