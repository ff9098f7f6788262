"""vmctl's storage pool: overlays and one seed per machine, on copies of boxes (``box_storage``) or on layers."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs

from vmctl import interrupt, templates
from vmctl.errors import VmctlError
from vmctl_libvirt import xml_text
from vmctl_libvirt.copying import copy_into
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.libvirt_errors import NO_VOLUME, is_code, library, still_there

POOL = "vmctl"
SYSTEM_DIRECTORY = Path("/var/lib/libvirt/images/vmctl")
CHUNK = 1024**2
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


def overlay_name(machine: str, number: int = 1) -> str:
    """The volume that a machine writes to; 2 and up are its further disks'."""
    return f"{machine}.qcow2" if number == 1 else f"{machine}-disk{number}.qcow2"


def seed_name(machine: str) -> str:
    """The volume with a machine's NoCloud seed."""
    return f"{machine}-seed.iso"


def pool_directory(*, is_session: bool) -> Path:
    """Where the pool lies when vmctl makes it: beside libvirt's own images."""
    return platformdirs.user_data_path("libvirt") / "images" / POOL if is_session else SYSTEM_DIRECTORY


class Storage:
    """The pool, on one open connection. Methods raise ``libvirt.libvirtError``."""

    def __init__(self, connection: Any, abilities: Abilities) -> None:
        self._connection = connection
        self._abilities = abilities

    def overlay(self, machine: str, base: str, base_format: str, size: int, *, number: int = 1) -> str:
        """A new, empty overlay of ``size`` on ``base``; its path. A half-made one of that name is replaced.

        What the last machine of that name wrote may be what layers stand on, or what is being removed just now: then it
        gets another name.
        """
        name, pool = overlay_name(machine, number), self._pool()
        present = self._find(pool, name)
        is_pinned = present is not None and present.path() in self.pinned(machine)
        if is_pinned or self._is_condemned(name):
            name = f"{machine}.{secrets.token_hex(4)}.{OVERLAY}"
        volume = Volume(name, "qcow2", size, backing=base, backing_format=base_format)
        return str(self._replace(pool, volume).path())

    def seed(self, machine: str, iso: Path) -> str:
        """A copy of the machine's seed; its path. An older one is replaced."""
        volume = self._replace(self._pool(), Volume(seed_name(machine), "raw", file_size(iso)))
        self._fill(volume, iso, 0o600)
        return str(volume.path())

    def begin_seed(self, machine: str, data: bytes) -> bool:
        """Overwrite the beginning of a seed, which may be in use; whether there is one that a guest can read."""
        if not self._abilities.runs_guests:
            return False
        volume = self._pool().storageVolLookupByName(seed_name(machine))
        if not self._abilities.writes_pool:
            self._send_all(volume, BytesIO(data), len(data))
            return True
        target = os.open(volume.path(), os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.write(target, data) == len(data)
        finally:
            os.close(target)

    def size(self, overlay: str) -> int | None:
        """Virtual size in bytes of the overlay with this path; None = there is none."""
        volume = self._find_path(overlay)
        return None if volume is None else int(volume.info()[1])

    def grow(self, overlay: str, size: int) -> None:
        """Make an overlay at least ``size``. The machine is stopped."""
        volume = self._find_path(overlay)
        if volume is not None and volume.info()[1] < size and self._abilities.runs_guests:
            volume.resize(size, 0)

    def remove(self, machine: str, *, used: Collection[str]) -> None:
        """Delete all volumes of the machine: its overlays, its seed, what its snapshots keep.

        Their names alone tell whose they are. What is among ``used`` (paths), or another machine's volume stands on,
        stays, and so do boxes.
        """
        own = {place.path for place in self.places() if self._is_of(machine, place.name)}
        for path in own - self.pinned(machine, used=used):
            self.delete(path)

    def pinned(self, machine: str, *, used: Collection[str] = ()) -> frozenset[str]:
        """Paths of the machine's volumes that others need: what is ``used``, or stands below others' volumes."""
        listed = {place.path: place for place in self.places()}
        own = {path: listed.pop(path) for path, place in list(listed.items()) if self._is_of(machine, place.name)}
        needed, pinned = {*used, *(place.backing for place in listed.values())}, set()
        while kept := own.keys() & needed:
            pinned |= kept
            needed |= {own.pop(path).backing for path in kept}
        return frozenset(pinned)

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

    def _is_condemned(self, name: str) -> bool:
        """Whether a removal that is under way, or goes on when somebody prunes, deletes what has this name."""
        stones = [volume for volume in self._pool().listAllVolumes(0) if TOMBSTONE.fullmatch(volume.name())]
        found = still_there(stones, pool_volume, NO_VOLUME)
        return any(stone.backing.rpartition("/")[2] == name for _, stone in found)

    def own(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Those of a machine's disks that are overlays in this pool; others are the user's (``libvirt.xml``)."""
        return tuple(path for path in paths if self._holds(path))

    def _holds(self, path: str) -> bool:
        volume = self._find_path(path) if path.endswith(f".{OVERLAY}") else None
        return volume is not None and volume.storagePoolLookupByVolume().name() == POOL

    def _of(self, machine: str) -> list[Any]:
        pool = self._existing()
        return [] if pool is None else [each for each in pool.listAllVolumes(0) if self._is_of(machine, each.name())]

    @classmethod
    def is_of(cls, machine: str, path: str) -> bool:
        """Whether a volume in the pool is of a machine, by its name; a machine's layers are not."""
        return cls._is_of(machine, path.rpartition("/")[2])

    @staticmethod
    def _is_of(machine: str, volume: str) -> bool:
        plain = {overlay_name(machine), seed_name(machine)}
        kept = rf"{re.escape(machine)}(?:-disk[1-9]\d*\.qcow2|\.[0-9a-f]{{8}}\.(?:{OVERLAY}|{MEMORY}))"
        if BASE_NAME.match(volume) or LAYER_NAME.fullmatch(volume):
            return False
        return volume in plain or bool(re.fullmatch(kept, volume))

    def places(self) -> list[PoolVolume]:
        """All volumes of the pool; other machines' come and go at any time."""
        pool = self._existing()
        listed = still_there(pool.listAllVolumes(0) if pool else (), pool_volume, NO_VOLUME)
        return [place for _, place in listed]

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
        return pool.createXML(templates.render("vmctl_libvirt", "volume.xml.j2", volume=volume), 0)

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

    def _fill(self, volume: Any, source: Path, mode: int) -> None:
        if self._abilities.writes_pool:
            copy_into(source, Path(volume.path()), mode)
        elif self._abilities.runs_guests:
            self._upload(volume, source)

    def _upload(self, volume: Any, source: Path) -> None:
        with source.open("rb") as reader:
            self._send_all(volume, reader, file_size(source))

    def _send_all(self, volume: Any, reader: BinaryIO, size: int) -> None:
        stream = self._connection.newStream(0)
        try:
            volume.upload(stream, 0, size, 0)
            while chunk := reader.read(CHUNK):
                interrupt.check()
                _send(stream, chunk)
            stream.finish()
        except BaseException:
            stream.abort()
            raise


def file_size(path: Path) -> int:
    """Bytes of a file of this host that is about to be copied."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise VmctlError(f"cannot read {path}", details=str(error), hint="vmctl box list") from error


def _send(stream: Any, chunk: bytes) -> None:
    while chunk:
        chunk = chunk[stream.send(chunk) :]


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
