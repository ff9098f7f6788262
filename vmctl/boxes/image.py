"""What a file really is, told by its content: a qcow2 or raw disk image that is safe to start machines from.

A qcow2 that names a backing file or an external data file would make the hypervisor read (and show the guest) any
file of the host, so such an image is refused before any program opens it.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vmctl import interrupt
from vmctl.errors import VmctlError, shell_command

QCOW2 = b"QFI\xfb"
HEADER = struct.Struct(">4sIQIIQIIQ")  # magic … size at 24, crypt 32, l1_size 36, l1_table_offset 40
VERSIONS = (2, 3)
DIRTY, CORRUPT, EXTERNAL_DATA = 1, 2, 4  # incompatible features; bits 3 and 4 are compression type, extended L2
UNKNOWN_FEATURES = ~0b11111
EXTENDED_L2 = 16
CLUSTER_BITS = range(9, 22)
LARGEST = 64 * 1024**4
"""Bytes of a disk that anyone has a use for."""
LARGEST_L1 = 32 * 1024**2
OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
BEYOND = OFFSET_MASK  # farther than any file goes
COMPRESSED = 1 << 62
SECTOR = 512
BOOT_SIGNATURE = b"\x55\xaa"
OTHERS = {
    b"KDMV": "a VMDK image", b"COWD": "a VMDK image", b"# Disk DescriptorFile": "a VMDK descriptor",
    b"vhdxfile": "a VHDX image", b"conectix": "a VHD image", b"<<< ": "a VDI image",
    b"\x1f\x8b": "a gzip file", b"\xfd7zXZ": "an xz file", b"\x28\xb5\x2f\xfd": "a zstd file",
    b"BZh": "a bzip2 file", b"PK\x03\x04": "a zip archive",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Image:
    """A usable disk image."""

    format: str
    virtual_size: int


class NotAnImage(VmctlError):
    """A file is not a disk image that machines can start from."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name} cannot be used as a box",
            details=why,
            hint=shell_command("qemu-img", "info", name)
            if name.startswith("/")
            else "give the address of the image itself",
        )


def inspect(path: Path, name: str, *, boots: bool = True) -> Image:
    """Look at the file.

    Args:
        path: the file.
        name: what the user calls it, for errors.
        boots: whether a machine is to start from it; a raw disk of data may lack a boot sector.

    Raises:
        NotAnImage: it is something else, damaged, truncated, or refers to other files.
    """
    with path.open("rb") as stream:
        head = stream.read(SECTOR)
        size = stream.seek(0, os.SEEK_END)
        if head.startswith(QCOW2):
            return _qcow2(stream, head, size, name)
        if not boots and len(head) == SECTOR:
            head = head[:-2] + BOOT_SIGNATURE
        return _raw(head, size, name)


def _raw(head: bytes, size: int, name: str) -> Image:
    for magic, what in OTHERS.items():
        if head.startswith(magic):
            raise NotAnImage(name, f"It is {what}; qcow2 and raw disk images are supported.")
    text = head.lstrip()[:64].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise NotAnImage(name, "It is a web page, not a disk image.")
    if text.startswith((b"{", b"[")):
        raise NotAnImage(name, "It is JSON, not a disk image.")
    if size < SECTOR or head[-2:] != BOOT_SIGNATURE:
        raise NotAnImage(name, "It is neither a qcow2 image nor a raw disk with a boot sector.")
    if size % SECTOR:
        raise NotAnImage(name, f"It is cut off: {size} bytes are not a whole number of sectors.")
    return Image("raw", size)


def _qcow2(stream: BinaryIO, head: bytes, size: int, name: str) -> Image:
    if len(head) < SECTOR:
        raise NotAnImage(name, f"It is a qcow2 image that is cut off after {size} bytes.")
    _, version, backing, _, cluster_bits, virtual_size, encrypted, l1_size, l1_offset = HEADER.unpack_from(head)
    (features,) = struct.unpack_from(">Q", head, 72) if version > VERSIONS[0] else (0,)
    problems = (
        (version not in VERSIONS, f"Its qcow version is {version}; 2 and 3 are supported."),
        (backing != 0, "It is an overlay: it refers to a backing file. Flatten it: qemu-img convert -O qcow2 IN OUT"),
        (features & EXTERNAL_DATA, "It keeps its data in another file. Convert it: qemu-img convert -O qcow2 IN OUT"),
        (features & CORRUPT, "It is marked as corrupt."),
        (features & UNKNOWN_FEATURES & (2**64 - 1), "It needs features that this vmctl does not know."),
        (encrypted, "It is encrypted."),
        (cluster_bits not in CLUSTER_BITS or l1_size * 8 > LARGEST_L1, "Its header is damaged."),
        (not 0 < virtual_size <= LARGEST or virtual_size % SECTOR, f"Its virtual size is {virtual_size} bytes."),
    )
    for bad, why in problems:
        if bad:
            raise NotAnImage(name, why)
    if l1_offset % SECTOR:
        raise NotAnImage(name, "Its header is damaged.")
    try:
        furthest = _furthest(stream, l1_offset, l1_size, cluster_bits, extended=bool(features & EXTENDED_L2))
    except _Tangled as error:
        raise NotAnImage(name, f"It is a damaged qcow2 image: {error}.") from error
    if furthest >= size:
        raise NotAnImage(name, f"It is a qcow2 image that is cut off after {size} bytes.")
    return Image("qcow2", virtual_size)


class _Tangled(Exception):
    """Tables overlap; to walk them would take time without end."""


def _furthest(stream: BinaryIO, l1_offset: int, l1_size: int, cluster_bits: int, *, extended: bool) -> int:
    """The highest offset in the file that the tables refer to; beyond the end when a table itself is cut off.

    Each table is a cluster of its own, so all of them together are not longer than the file.
    """
    furthest = l1_offset
    seen: set[int] = set()
    for entry in _table(stream, l1_offset, l1_size):
        offset = entry & OFFSET_MASK
        furthest = max(furthest, offset)
        if 0 < offset < BEYOND:
            interrupt.check()
            if offset in seen or offset % (1 << cluster_bits):
                raise _Tangled("two parts of the disk share a table" if offset in seen else "a table is misplaced")
            seen.add(offset)
            entries = _table(stream, offset, (1 << cluster_bits) // 8)
            pointers = entries[::2] if extended else entries
            furthest = max(furthest, offset, *_offsets(pointers, cluster_bits))
    return furthest


def _offsets(entries: array[int], cluster_bits: int) -> Iterator[int]:
    compressed_mask = (1 << (62 - (cluster_bits - 8))) - 1
    yield 0
    for entry in entries:
        if entry:
            yield entry & (compressed_mask if entry & COMPRESSED else OFFSET_MASK)


def _table(stream: BinaryIO, offset: int, count: int) -> array[int]:
    """``count`` big-endian 64-bit numbers; where the file ends early, one that points beyond any file."""
    if offset + count * 8 > stream.seek(0, os.SEEK_END):
        return array("Q", [BEYOND])
    stream.seek(offset)
    data = stream.read(count * 8)
    entries = array("Q", data)
    if sys.byteorder == "little":
        entries.byteswap()
    return entries
