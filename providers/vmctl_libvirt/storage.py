"""What is in the storage pool: overlays and one seed per machine, on copies of boxes (``box_storage``) or on layers.

An image is copied into its volume by reference where the file system can, without its holes elsewhere, and sent through
libvirt where vmctl cannot write to the pool.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from vmctl import interrupt, process
from vmctl.errors import VmctlError, in_words
from vmctl_libvirt.libvirt_errors import library
from vmctl_libvirt.pool import BASE_NAME, LAYER_NAME, MEMORY, OVERLAY, POOL, Pool, Volume, volume_xml

CHUNK = 1024**2
EXPORTED = "export-"
"""What the name of a volume begins with that is only there to be downloaded."""
FICLONE = 0x40049409
BUFFER = 1024**2  # bytes in memory at a time, where the kernel does not copy by itself
COPY_CHUNK = 16 * 1024**2


def overlay_name(machine: str, number: int = 1) -> str:
    """The volume that a machine writes to; 2 and up are its further disks'."""
    return f"{machine}.qcow2" if number == 1 else f"{machine}-disk{number}.qcow2"


def seed_name(machine: str) -> str:
    """The volume with a machine's NoCloud seed."""
    return f"{machine}-seed.iso"


class Storage(Pool):
    """Machines' volumes in the pool, and what they are filled with. Methods raise ``libvirt.libvirtError``."""

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

    def _fill(self, volume: Any, source: Path, mode: int) -> None:
        if self._abilities.writes_pool:
            copy_into(source, Path(volume.path()), mode)
        elif self._abilities.runs_guests:
            self._upload(volume, source)

    def _upload(self, volume: Any, source: Path) -> None:
        with source.open("rb") as reader:
            self._send_all(volume, reader, file_size(source))

    def _send_all(self, volume: Any, reader: BinaryIO, size: int) -> None:
        with _finished(self._connection.newStream(0)) as stream:
            volume.upload(stream, 0, size, 0)
            while chunk := reader.read(CHUNK):
                interrupt.check()
                _send(stream, chunk)

    def export(self, path: str, target: Path) -> None:
        """Write an overlay with all that it stands on into one file, by qemu-img where it can read the pool.

        Raises:
            VmctlError: qemu-img failed, or the disk is full.
        """
        if self._abilities.writes_pool:
            qemu_img = process.find("qemu-img", package="qemu-utils")
            process.run([qemu_img, "convert", "-f", "qcow2", "-O", "qcow2", "--", path, target])
            return
        volume = self._connection.storageVolLookupByPath(path)
        wanted = Volume(f"{EXPORTED}{secrets.token_hex(8)}.qcow2", "qcow2", volume.info()[1])
        copy = volume.storagePoolLookupByVolume().createXMLFrom(volume_xml(wanted), volume, 0)  # flat, beside it
        try:
            self._download(copy, target)
        finally:
            with interrupt.shielded():
                copy.delete(0)

    def _download(self, volume: Any, target: Path) -> None:
        if not self._abilities.runs_guests:  # libvirt's test driver moves no bytes
            target.touch()
            return
        with target.open("wb") as writer, _finished(self._connection.newStream(0)) as stream:
            volume.download(stream, 0, 0, 0)
            while chunk := stream.recv(CHUNK):
                interrupt.check()
                writer.write(chunk)


@contextmanager
def _finished(stream: Any) -> Iterator[Any]:
    """A stream of libvirt's, which is finished at the end of the block; aborted, where that failed."""
    try:
        yield stream
        stream.finish()
    except BaseException:
        with suppress(library().libvirtError):  # one that libvirt itself has ended; what failed first matters
            stream.abort()
        raise


def file_size(path: Path) -> int:
    """Bytes of a file of this host that is about to be copied."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise VmctlError(f"cannot read {path}", details=in_words(error), hint="vmctl box list") from error


def _send(stream: Any, chunk: bytes) -> None:
    while chunk:
        chunk = chunk[stream.send(chunk) :]


def copy_into(source: Path, target: Path, mode: int) -> None:
    """Make ``target`` (a new, empty file of ours) hold what ``source`` holds, on disk, with permissions ``mode``.

    Raises:
        VmctlError: reading or writing failed.
        Interrupted: the user asked to stop.
    """
    try:
        with source.open("rb") as reader, target.open("r+b") as writer:
            _copy(reader.fileno(), writer.fileno())
            os.fchmod(writer.fileno(), mode)
            os.fsync(writer.fileno())
    except OSError as error:
        raise VmctlError(f"cannot copy {source} to {target}", details=in_words(error), hint="df -h") from error


def _copy(reader: int, writer: int) -> None:
    try:
        fcntl.ioctl(writer, FICLONE, reader)
    except OSError:  # another file system, or one that cannot
        _copy_data(reader, writer)


def _copy_data(reader: int, writer: int) -> None:
    size = os.fstat(reader).st_size
    os.truncate(writer, size)
    position = 0
    while position < size:
        try:
            start = os.lseek(reader, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        position = os.lseek(reader, start, os.SEEK_HOLE)
        _copy_range(reader, writer, start, position)


def _copy_range(reader: int, writer: int, start: int, end: int) -> None:
    while start < end:
        interrupt.check()
        copied = _copy_some(reader, writer, min(COPY_CHUNK, end - start), start)
        if copied == 0:
            raise OSError(errno.EIO, "the image became shorter while it was copied")
        start += copied


def _copy_some(reader: int, writer: int, count: int, offset: int) -> int:
    """Copy in the kernel, or by hand between file systems (or mounts) that it does not copy between."""
    try:
        return os.copy_file_range(reader, writer, count, offset, offset)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return os.pwrite(writer, os.pread(reader, min(count, BUFFER), offset), offset)
