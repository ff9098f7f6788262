"""The volumes that a machine's snapshots keep: frozen overlays, each the ground of others, and memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from vmctl.wait import Deadline, until
from vmctl_libvirt import xml_text
from vmctl_libvirt.libvirt_errors import library, virsh
from vmctl_libvirt.pool import LAYER, MEMORY, OVERLAY, Volume
from vmctl_libvirt.storage import Storage

PATIENCE = 60.0
"""Seconds for others to end what they do in the pool."""


@dataclass(frozen=True)
class Overlay:
    """One overlay of a machine."""

    path: str
    below: str
    """Path of the volume that it stands on."""
    allocation: int
    """Bytes that it takes up on disk."""
    pinned: bool = False
    """Whether others than this machine need it as it is: layers, clones."""


class LayerStorage(Storage):
    """The pool, with what snapshots need of it."""

    def stack(self, machine: str, layer: str, below: str) -> str:
        """A new, empty overlay on ``below``, as large as that; its path."""
        ground = self._connection.storageVolLookupByPath(below)
        volume = Volume(
            f"{machine}.{layer}.{OVERLAY}", "qcow2", int(ground.info()[1]), backing=below, backing_format="qcow2"
        )
        return str(self._replace(self._pool(), volume).path())

    def layer(self, key: str, number: int, below: str) -> str:
        """An empty overlay on ``below`` that bears a layer's key; its path. There is none of that name."""
        size = int(self._connection.storageVolLookupByPath(below).info()[1])
        volume = Volume(f"{LAYER}{key}-{number}.{OVERLAY}", "qcow2", size, backing=below, backing_format="qcow2")
        return str(self._create(self._pool(), volume).path())

    def layer_memory(self, key: str, below: str) -> str:
        """As ``layer``, on the memory ``below`` that goes with the layer's disks."""
        size = int(self._connection.storageVolLookupByPath(below).info()[1])
        volume = Volume(f"{LAYER}{key}-0.{MEMORY}", "qcow2", size, backing=below, backing_format="raw")
        return str(self._create(self._pool(), volume).path())

    def memory(self, machine: str, layer: str) -> str:
        """An empty volume for a machine's memory; its path."""
        return str(self._replace(self._pool(), Volume(f"{machine}.{layer}.{MEMORY}", "raw", 1)).path())

    def memory_path(self, machine: str, layer: str) -> str:
        """Where the memory of a snapshot is."""
        return str(self._pool().storageVolLookupByName(f"{machine}.{layer}.{MEMORY}").path())

    def overlays(self, machine: str, *, fresh: bool = False) -> Mapping[str, Overlay]:
        """All overlays of a machine, by path.

        libvirt remembers what a volume stood on when it first saw it. ``fresh`` has it look at the files again.
        """
        if fresh and self._abilities.runs_guests:
            self._refresh()
        pinned = self.pinned(machine)
        found = [_overlay(volume, pinned) for volume in self._of(machine) if volume.name().endswith(f".{OVERLAY}")]
        return {each.path: each for each in found}

    def memories(self, machine: str) -> Mapping[str, int]:
        """Bytes on disk of the memory that snapshots keep, by path; what layers need is not theirs."""
        found = [volume for volume in self._of(machine) if volume.name().endswith(f".{MEMORY}")]
        pinned = self.pinned(machine) if found else frozenset()
        return {volume.path(): int(volume.info()[2]) for volume in found if volume.path() not in pinned}

    def room(self) -> int:
        """Bytes that are free in the pool."""
        self._refresh()
        return int(self._pool().info()[3])

    def _refresh(self) -> None:
        hint = virsh(self._connection, "pool-list", "--details")
        until(self._is_refreshed, Deadline.after(PATIENCE), "libvirt's storage pool to be free", hint=hint)

    def _is_refreshed(self) -> bool:
        libvirt = library()
        try:
            self._pool().refresh(0)
        except libvirt.libvirtError as error:
            if "asynchronous jobs" not in str(error):  # somebody else copies a box into the pool just now
                raise
            return False
        return True


def _overlay(volume: Any, pinned: Collection[str]) -> Overlay:
    root = xml_text.parse(volume.XMLDesc(0))
    path = volume.path()
    return Overlay(path, root.findtext("backingStore/path") or "", int(volume.info()[2]), path in pinned)
