"""What a box changed in a window of its parent: which blocks, as a bitmap, and then these blocks one after the other.

Blocks are as small as those of the guest's file system, so that what moves is what was written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from vmctl.boxes.oci.qcow2_layout import WindowMismatch
from vmctl.boxes.oci.windows import READ, DiskSource, Packed, clusters_of, compress, pieces

BLOCK = 4096


class Same(Exception):
    """Nothing changed."""


class _Compared(Struct, frozen=True):
    bitmap: bytes
    changed: int
    """Bytes."""
    clusters: int
    content: str


def pack(new: DiskSource, old: DiskSource, number: int, scratch: Callable[[str], Path], target: Path) -> Packed | None:
    """Compress what changed in a window into ``target``; None when it is all zeros by now.

    Args:
        new: the disk.
        old: the parent's.
        number: of the window.
        scratch: names a file that lasts for moments.
        target: gets the delta.

    Raises:
        Same: nothing changed.
        NoSpace, VmctlError, Interrupted: as ``DiskSource.pack``.
    """
    length, known = new.length(number), old.length(number)
    if not new.has_data(number):
        return None
    with new.opened(number, scratch("new.raw")) as stream, old.opened(number, scratch("old.raw")) as parent:
        start = stream.tell()
        found = _compared(stream, parent, length, min(known, length))
        if not found.clusters:
            return None
        if not found.changed:
            raise Same
        parts = _parts(stream, start, length, found.bitmap)
        blob = compress(parts, len(found.bitmap) + found.changed, target)
    return Packed(blob=blob, clusters=found.clusters, content=found.content)


def _compared(new: BinaryIO, old: BinaryIO, length: int, known: int) -> _Compared:
    """Compare a window with its parent's, which is zeros beyond ``known`` bytes."""
    bitmap, content = bytearray(_bitmap_size(length)), hashlib.sha256()
    changed = clusters = at = 0
    for data in pieces(new, length):
        content.update(data)
        clusters += clusters_of(data)
        before = old.read(min(len(data), max(0, known - at))).ljust(len(data), b"\0")
        if data != before:
            for offset in range(0, len(data), BLOCK):
                block = data[offset : offset + BLOCK]
                if block != before[offset : offset + BLOCK]:
                    bit = (at + offset) // BLOCK
                    bitmap[bit // 8] |= 1 << bit % 8
                    changed += len(block)
        at += len(data)
    return _Compared(bytes(bitmap), changed, clusters, f"sha256:{content.hexdigest()}")


def _parts(stream: BinaryIO, start: int, length: int, bitmap: bytes) -> Iterator[bytes]:
    yield bitmap
    for offset, size in _blocks(bitmap, length):
        stream.seek(start + offset)
        yield stream.read(size)


def _blocks(bitmap: bytes, length: int) -> Iterator[tuple[int, int]]:
    """Where blocks are, and how long; neighbours together, as far as one read takes."""
    begin = end = 0
    for at in range(0, length, BLOCK):
        bit = at // BLOCK
        if bitmap[bit // 8] >> bit % 8 & 1:
            if at != end or end - begin >= READ:
                if end > begin:
                    yield begin, end - begin
                begin = at
            end = min(at + BLOCK, length)
    if end > begin:
        yield begin, end - begin


def apply(read: Callable[[int], bytes], handle: int, length: int) -> None:
    """Change a window, which is a file of its own.

    Args:
        read: gives the delta's bytes, as many as asked for until its end.
        handle: of the file.
        length: of the window.

    Raises:
        WindowMismatch: it is shorter or longer than its bitmap says, or names blocks beyond the window.
    """
    bitmap = read(_bitmap_size(length))
    beyond = int.from_bytes(bitmap, "little") >> -(-length // BLOCK)
    if len(bitmap) != _bitmap_size(length) or beyond:
        raise WindowMismatch("its list of blocks is invalid")
    for offset, size in _blocks(bitmap, length):
        data = read(size)
        if len(data) != size:
            raise WindowMismatch("it ends early")
        os.pwrite(handle, data, offset)
    if read(1):
        raise WindowMismatch("it is longer than its blocks")


def _bitmap_size(length: int) -> int:
    return -(-length // (8 * BLOCK))
