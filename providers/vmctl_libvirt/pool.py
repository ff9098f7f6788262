"""vmctl's storage pool: what its volumes are called, and making, finding and deleting them."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from vmctl import templates
from vmctl_libvirt import xml_text
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.libvirt_errors import NO_VOLUME, is_code, library, still_there

POOL = "vmctl"
SYSTEM_DIRECTORY = Path("/var/lib/libvirt/images/vmctl")
BASE = "base-"
COMPLETE = ".complete"
BASE_NAME = re.compile(rf"{BASE}[0-9a-f]{{64}}-[0-9a-f]{{8}}\.")
LAYER = "layer-"
OVERLAY, MEMORY = "qcow2", "memory"
"""What the names of the volumes of snapshots end with; 8 hex digits stand between the machine's name and that."""
LAYER_NAME = re.compile(rf"{LAYER}([0-9a-f]{{64}})-(0\.{MEMORY}|([1-9]\d*)\.{OVERLAY})")
"""Key, and which of its disks; each is an empty overlay on what a machine wrote once. Number 0 is on its memory."""
TOMBSTONE = re.compile(r"gone-([0-9a-f]{64})(-[0-9a-f]{8})?")
"""Key of a layer that is being removed, or digest and random part of a copy of a box."""


@dataclass(frozen=True)
class Volume:
    """A volume to create; sizes in bytes."""

    name: str
    format: str
    capacity: int
    mode: str = "0600"
    backing: str = ""
    backing_format: str = ""


@dataclass(frozen=True)
class PoolVolume:
    """A volume that is there."""

    name: str
    path: str
    backing: str
    """Path of the volume that it stands on; "" = none."""
    allocation: int = 0
    """Bytes that it takes up on disk."""
    capacity: int = 0
    """Bytes that it holds."""
    changed: float = 0.0
    """When its content was last changed, in seconds since the epoch; 0 = not known."""

    @property
    def is_tombstone(self) -> bool:
        """Whether it only leads to what is being removed, and needs nothing of what it stands on."""
        return bool(TOMBSTONE.fullmatch(self.name))


def pool_directory(*, is_session: bool) -> Path:
    """Where the pool lies when vmctl makes it: beside libvirt's own images."""
    return platformdirs.user_data_path("libvirt") / "images" / POOL if is_session else SYSTEM_DIRECTORY


def volume_xml(volume: Volume) -> str:
    """A volume as libvirt is told of it."""
    return templates.render("vmctl_libvirt", "volume.xml.j2", volume=volume)


class Pool:
    """The pool, on one open connection. Methods raise ``libvirt.libvirtError``."""

    def __init__(self, connection: Any, abilities: Abilities) -> None:
        self._connection = connection
        self._abilities = abilities

    def places(self) -> list[PoolVolume]:
        """All volumes of the pool; other machines' come and go at any time."""
        pool = self._existing()
        listed = still_there(pool.listAllVolumes(0) if pool else (), pool_volume, NO_VOLUME)
        return [place for _, place in listed]

    def delete(self, path: str) -> None:
        """Delete a volume; absent: nothing."""
        volume = self._find_path(path)
        if volume is None:
            return
        try:
            volume.delete(0)
        except library().libvirtError as error:
            if not is_code(error, NO_VOLUME):  # else another vmctl was first
                raise

    def condemn(self, what: str, path: str, backing_format: str) -> None:
        """Leave a tombstone on a volume that is about to be known to nobody, for others to go on after a kill.

        A full pool may have no room for one; it gets some by the removal.
        """
        with suppress(library().libvirtError):
            size = int(self._connection.storageVolLookupByPath(path).info()[1])
            stone = Volume(f"gone-{what}", "qcow2", size, backing=path, backing_format=backing_format)
            self._replace(self._pool(), stone)

    def pardon(self, what: str) -> None:
        """Take back ``condemn``."""
        for stone in self.places():
            if stone.name == f"gone-{what}":
                self.drop(stone)

    def drop(self, stone: PoolVolume) -> None:
        """Delete a tombstone, unless another vmctl makes or deletes it just now; one that is left, others find."""
        with suppress(library().libvirtError):
            self.delete(stone.path)

    def _is_condemned(self, name: str) -> bool:
        """Whether a removal that is under way, or goes on when somebody prunes, deletes what has this name."""
        stones = [volume for volume in self._pool().listAllVolumes(0) if TOMBSTONE.fullmatch(volume.name())]
        found = still_there(stones, pool_volume, NO_VOLUME)
        return any(stone.backing.rpartition("/")[2] == name for _, stone in found)

    def _find_path(self, path: str) -> Any | None:
        libvirt = library()
        try:
            return self._connection.storageVolLookupByPath(path)
        except libvirt.libvirtError as error:
            if is_code(error, NO_VOLUME):
                return None
            raise

    def _pool(self) -> Any:
        """The pool, defined and started where needed."""
        libvirt = library()
        pool = self._existing() or self._define()
        if not pool.isActive():
            try:
                pool.build(0)
                pool.create(0)
            except libvirt.libvirtError:
                if not pool.isActive():  # else another vmctl was first
                    raise
        return pool

    def _existing(self) -> Any | None:
        libvirt = library()
        try:
            return self._connection.storagePoolLookupByName(POOL)
        except libvirt.libvirtError as error:
            if is_code(error, "VIR_ERR_NO_STORAGE_POOL"):
                return None
            raise

    def _define(self) -> Any:
        libvirt = library()
        directory = pool_directory(is_session=self._abilities.is_session)
        xml = templates.render("vmctl_libvirt", "pool.xml.j2", name=POOL, directory=directory)
        try:
            pool = self._connection.storagePoolDefineXML(xml, 0)
        except libvirt.libvirtError:
            if (pool := self._existing()) is None:  # else another vmctl was first
                raise
            return pool
        pool.setAutostart(1)
        return pool

    def _create(self, pool: Any, volume: Volume) -> Any:
        return pool.createXML(volume_xml(volume), 0)

    def _replace(self, pool: Any, volume: Volume) -> Any:
        present = self._find(pool, volume.name)
        if present is not None:
            present.delete(0)
        return self._create(pool, volume)

    def _find(self, pool: Any, name: str) -> Any | None:
        libvirt = library()
        try:
            return pool.storageVolLookupByName(name)
        except libvirt.libvirtError as error:
            if is_code(error, NO_VOLUME):
                return None
            raise


def pool_volume(volume: Any) -> PoolVolume:
    """A volume of libvirt's, as it is now, asked for in one question; raises ``libvirt.libvirtError``."""
    root = xml_text.parse(volume.XMLDesc(0))
    return PoolVolume(
        name=volume.name(),
        path=root.findtext("target/path") or volume.path(),
        backing=root.findtext("backingStore/path") or "",
        allocation=int(root.findtext("allocation") or 0),
        capacity=int(root.findtext("capacity") or 0),
        changed=float(root.findtext("target/timestamps/mtime") or 0),
    )
