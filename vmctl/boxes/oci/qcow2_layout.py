"""A disk as boxes of registries lie in the store: a qcow2 whose bytes follow from the disk's content alone.

First the header's cluster, then all clusters of the disk that are not zero, in their order, then the tables. So each
window of the disk can be written at once to its place, by several threads in any order, and every host that pulls a box
has the same file with the same digest. Format: QEMU's docs/interop/qcow2.txt, version 3.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from msgspec import Struct

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
ZERO = bytes(CLUSTER)
HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
MAGIC, VERSION, HEADER_LENGTH, REFCOUNT_ORDER = b"QFI\xfb", 3, 104, 4
COPIED = 1 << 63
PER_L2 = CLUSTER // 8
PER_REFCOUNT_BLOCK = CLUSTER // 2


class WindowMismatch(Exception):
    """A window (or what changed in one) is not what was announced; a caller that knows whose it is makes its error."""


class Layout(Struct, frozen=True, kw_only=True):
    """Where everything of one disk lies."""

    size: int
    """Bytes that the guest sees."""
    window: int
    """Bytes of each window but the last."""
    clusters: Mapping[int, int]
    """How many clusters of a window are not zero, by the window's number; absent = none."""

    @property
    def windows(self) -> int:
        """How many there are, present or not."""
        return -(-self.size // self.window)

    def length(self, number: int) -> int:
        """Bytes of a window."""
        return min(self.window, self.size - number * self.window)

    def places(self) -> dict[int, int]:
        """Where in the file the clusters of each window begin."""
        numbers = sorted(self.clusters)
        before = accumulate((self.clusters[number] for number in numbers), initial=1)
        return {number: count * CLUSTER for number, count in zip(numbers, before, strict=False)}

    @property
    def data(self) -> int:
        """Clusters of data."""
        return sum(self.clusters.values())

    def l1_entries(self) -> int:
        """How many L2 tables the disk could have."""
        return -(-self.size // (PER_L2 * CLUSTER))


def finish(handle: int, layout: Layout, bitmaps: Mapping[int, bytes]) -> int:
    """Write the header and the tables of a file that has all its data; the file's length.

    Args:
        handle: of the file.
        layout: of the disk.
        bitmaps: for each present window, which of its clusters are not zero: bit n of byte n // 8.
    """
    end = (1 + layout.data) * CLUSTER
    l1 = [0] * layout.l1_entries()
    for index, table in _l2_tables(layout, bitmaps):
        os.pwrite(handle, struct.pack(f">{PER_L2}Q", *table), end)
        l1[index] = end | COPIED
        end += CLUSTER
    l1_offset = end
    end = _append(handle, struct.pack(f">{len(l1)}Q", *l1), end)
    table_offset, table_clusters, end = _refcounts(handle, end)
    header = HEADER.pack(
        MAGIC, VERSION, 0, 0, CLUSTER_BITS, layout.size, 0, len(l1), l1_offset, table_offset, table_clusters,
        0, 0, 0, 0, 0, REFCOUNT_ORDER, HEADER_LENGTH,
    )  # fmt: skip
    os.pwrite(handle, header.ljust(CLUSTER, b"\0"), 0)
    os.ftruncate(handle, end)
    return end


def _l2_tables(layout: Layout, bitmaps: Mapping[int, bytes]) -> Iterator[tuple[int, Sequence[int]]]:
    """Each L2 table that is not empty, and its number."""
    current, table = -1, [0] * PER_L2
    place = CLUSTER
    per_window = layout.window // CLUSTER
    for number in sorted(bitmaps):
        for cluster in _set_bits(bitmaps[number]):
            index, entry = divmod(number * per_window + cluster, PER_L2)
            if index != current:
                if current >= 0:
                    yield current, table
                current, table = index, [0] * PER_L2
            table[entry] = place | COPIED
            place += CLUSTER
    if current >= 0:
        yield current, table


def _set_bits(bitmap: bytes) -> Iterator[int]:
    return (8 * at + bit for at, byte in enumerate(bitmap) if byte for bit in range(8) if byte >> bit & 1)


def _refcounts(handle: int, offset: int) -> tuple[int, int, int]:
    """Count every cluster of the file once; where the table is, its clusters, the file's length."""
    used = offset // CLUSTER
    blocks = table = 0
    while True:
        total = used + blocks + table
        needed = -(-total // PER_REFCOUNT_BLOCK), 0
        needed = needed[0], -(-needed[0] * 8 // CLUSTER)
        if needed == (blocks, table):
            break
        blocks, table = needed
    counted = total * b"\0\1"
    for number in range(blocks):
        part = counted[number * CLUSTER : (number + 1) * CLUSTER].ljust(CLUSTER, b"\0")
        os.pwrite(handle, part, offset + number * CLUSTER)
    at = offset + blocks * CLUSTER
    entries = struct.pack(f">{blocks}Q", *(offset + number * CLUSTER for number in range(blocks)))
    return at, table, _append(handle, entries, at)


def _append(handle: int, data: bytes, offset: int) -> int:
    """Write a table in whole clusters; where the next one begins."""
    padded = data.ljust(-(-len(data) // CLUSTER) * CLUSTER, b"\0")
    os.pwrite(handle, padded, offset)
    return offset + len(padded)


def write_window(handle: int, read: Callable[[int], bytes], length: int, place: int, most: int) -> bytes:
    """Write the clusters of a window that are not zero, one after the other; which they are, as a bitmap.

    Args:
        handle: of the file.
        read: gives the window's bytes, as many as asked for until its end.
        length: of the window.
        place: where in the file its clusters begin.
        most: how many of its clusters are not zero.

    Raises:
        WindowMismatch: it is shorter or longer, or another number of its clusters is not zero.
    """
    bitmap = bytearray(-(-length // CLUSTER) // 8 + 1)
    count = 0
    for cluster in range(-(-length // CLUSTER)):
        wanted = min(CLUSTER, length - cluster * CLUSTER)
        data = read(wanted)
        if len(data) != wanted:
            raise WindowMismatch(f"it ends after {cluster * CLUSTER + len(data)} of {length} bytes")
        if data != ZERO[:wanted]:
            if count == most:
                raise WindowMismatch("more of it is not zero than was announced")
            os.pwrite(handle, data.ljust(CLUSTER, b"\0"), place + count * CLUSTER)
            bitmap[cluster // 8] |= 1 << cluster % 8
            count += 1
    if read(1):
        raise WindowMismatch(f"it is longer than {length} bytes")
    if count != most:
        raise WindowMismatch(f"{count} of its clusters are not zero, not {most}")
    return bytes(bitmap)
