"""vmctl's storage pool: read-only base volumes named by digest, and one overlay and one seed per machine.

Volumes cannot be renamed, so a base volume gets a name of its own each time (digest and a random part), and counts
only once a second, empty volume ``….complete`` stands beside it. An upload that was killed is never used, and two
vmctl, even of different users on different hosts, need no lock against each other.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import platformdirs

from vmctl import interrupt, templates
from vmctl.driver import Disk
from vmctl.errors import VmctlError
from vmctl_libvirt.copying import copy_into
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.libvirt_errors import NO_VOLUME, is_code, library, still_there

POOL = "vmctl"
SYSTEM_DIRECTORY = Path("/var/lib/libvirt/images/vmctl")
CHUNK = 1024**2
READ_ONLY = 0o444
BASE = "base-"
COMPLETE = ".complete"
BASE_NAME = re.compile(rf"{BASE}[0-9a-f]{{64}}-[0-9a-f]{{8}}\.")
OVERLAY, MEMORY = "qcow2", "memory"
"""What the names of the volumes of snapshots end with; 8 hex digits stand between the machine's name and that."""


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


def overlay_name(machine: str, number: int = 1) -> str:
    """The volume that a machine writes to; 2 and up are its further disks'."""
    return f"{machine}.qcow2" if number == 1 else f"{machine}-disk{number}.qcow2"


def seed_name(machine: str) -> str:
    """The volume with a machine's NoCloud seed."""
    return f"{machine}-seed.iso"


def base_stem(digest: str) -> str:
    """What the names of all copies of a box begin with."""
    return f"{BASE}{digest}-"


def pool_directory(*, is_session: bool) -> Path:
    """Where the pool lies when vmctl makes it: beside libvirt's own images."""
    return platformdirs.user_data_path("libvirt") / "images" / POOL if is_session else SYSTEM_DIRECTORY


class Storage:
    """The pool, on one open connection. Methods raise ``libvirt.libvirtError``."""

    def __init__(self, connection: Any, abilities: Abilities) -> None:
        self._connection = connection
        self._abilities = abilities

    def base(self, disk: Disk) -> str:
        """Path (on the hypervisor) of a complete, read-only copy of ``disk``; makes one where there is none."""
        pool = self._pool()
        for path in self._complete(pool, disk.digest):
            return path
        stem = base_stem(disk.digest) + secrets.token_hex(4)
        mode = "0644" if self._abilities.writes_pool else "0444"  # the copy itself makes it read-only then
        wanted = Volume(f"{stem}.{disk.format}", "raw", _file_size(disk.path), mode=mode)
        volume = self._create(pool, wanted)
        try:
            self._fill(volume, disk.path, READ_ONLY)
            self._create(pool, Volume(stem + COMPLETE, "raw", 1, mode="0444"))
        except BaseException:
            with suppress(library().libvirtError):  # what failed first is what matters
                volume.delete(0)
            raise
        return str(volume.path())

    def overlay(self, machine: str, base: str, base_format: str, size: int, *, number: int = 1) -> str:
        """A new, empty overlay of ``size`` on ``base``; its path. A half-made one of that name is replaced."""
        volume = Volume(overlay_name(machine, number), "qcow2", size, backing=base, backing_format=base_format)
        return str(self._replace(self._pool(), volume).path())

    def seed(self, machine: str, iso: Path) -> str:
        """A copy of the machine's seed; its path. An older one is replaced."""
        volume = self._replace(self._pool(), Volume(seed_name(machine), "raw", _file_size(iso)))
        self._fill(volume, iso, 0o600)
        return str(volume.path())

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
        pool = self._existing()
        listed = {place.path: place for place in self._listed(pool)}
        own = {path: listed.pop(path) for path, place in list(listed.items()) if self._is_of(machine, place.name)}
        needed = {*used, *(place.backing for place in listed.values())}
        while kept := own.keys() & needed:
            needed |= {own.pop(path).backing for path in kept}
        for path in own:
            self.delete(path)

    def delete(self, path: str) -> None:
        """Delete a volume; absent: nothing."""
        volume = self._find_path(path)
        if volume is not None:
            volume.delete(0)

    def own(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Those of a machine's disks that are overlays in this pool; others are the user's (``libvirt.xml``)."""
        return tuple(path for path in paths if self._holds(path))

    def _holds(self, path: str) -> bool:
        volume = self._find_path(path) if path.endswith(f".{OVERLAY}") else None
        return volume is not None and volume.storagePoolLookupByVolume().name() == POOL

    def _of(self, machine: str) -> list[Any]:
        pool = self._existing()
        return [] if pool is None else [each for each in pool.listAllVolumes(0) if self._is_of(machine, each.name())]

    @staticmethod
    def _is_of(machine: str, volume: str) -> bool:
        plain = {overlay_name(machine), seed_name(machine)}
        kept = rf"{re.escape(machine)}(?:-disk[1-9]\d*\.qcow2|\.[0-9a-f]{{8}}\.(?:{OVERLAY}|{MEMORY}))"
        return not BASE_NAME.match(volume) and (volume in plain or bool(re.fullmatch(kept, volume)))

    @staticmethod
    def _listed(pool: Any | None) -> list[PoolVolume]:
        """All volumes of the pool; other machines' come and go at any time."""
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

    def prune_bases(self) -> list[str]:
        """Delete the complete base volumes that no overlay in the pool stands on; their names."""
        pool = self._existing()
        if pool is None:
            return []
        places = self._listed(pool)
        used = {place.backing for place in places}
        unused = [each for each in places if self._is_complete(pool, each.name) and each.path not in used]
        for place in unused:
            marker = self._find(pool, _marker(place.name))
            if marker is not None:
                marker.delete(0)  # first, so that nobody takes it up any more
            self.delete(place.path)
        return [place.name for place in unused]

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

    def _complete(self, pool: Any, digest: str) -> Iterator[str]:
        stem = base_stem(digest)
        copies = [volume for volume in pool.listAllVolumes(0) if volume.name().startswith(stem)]
        for volume, path in still_there(copies, lambda volume: str(volume.path()), NO_VOLUME):
            if self._is_complete(pool, volume.name()):
                yield path

    def _is_complete(self, pool: Any, name: str) -> bool:
        if not name.startswith(BASE) or name.endswith(COMPLETE):
            return False
        return self._find(pool, _marker(name)) is not None

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
        stream = self._connection.newStream(0)
        with source.open("rb") as reader:
            try:
                volume.upload(stream, 0, _file_size(source), 0)
                while chunk := reader.read(CHUNK):
                    interrupt.check()
                    _send(stream, chunk)
                stream.finish()
            except BaseException:
                stream.abort()
                raise


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise VmctlError(f"cannot read {path}", details=str(error), hint="vmctl box list") from error


def _send(stream: Any, chunk: bytes) -> None:
    while chunk:
        chunk = chunk[stream.send(chunk) :]


def _marker(name: str) -> str:
    return name.rpartition(".")[0] + COMPLETE


def pool_volume(volume: Any) -> PoolVolume:
    """A volume of libvirt's, as it is now; raises ``libvirt.libvirtError``."""
    root = ET.fromstring(volume.XMLDesc(0))  # noqa: S314  libvirt made this text
    return PoolVolume(volume.name(), volume.path(), root.findtext("backingStore/path") or "")
