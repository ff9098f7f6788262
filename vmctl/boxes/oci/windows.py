"""The windows of a disk, as they travel: 64 MiB of what the guest sees, compressed; a window of zeros stays at home."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import Struct

from vmctl import interrupt, process
from vmctl.boxes import space
from vmctl.boxes.image import EXTENDED_L2, HEADER, OFFSET_MASK
from vmctl.boxes.oci.qcow2_layout import CLUSTER, ZERO
from vmctl.boxes.oci.registry_client import Blob
from vmctl.spec import MIB

if TYPE_CHECKING:
    from vmctl.boxes.box import BoxImage

WINDOW = 64 * MIB
MOST = 1000
"""Windows of a disk: registries and their clients take manifests of some hundred kilobytes."""
LEVEL = 3
READ = 1024**2


def window_size(size: int) -> int:
    """How long the windows of a disk of ``size`` bytes are: at most ``MOST`` of them."""
    window = WINDOW
    while window * MOST < size:
        window *= 2
    return window


class Packed(Struct, frozen=True, kw_only=True):
    """A window, or what changed in it, compressed into a file."""

    blob: Blob
    clusters: int
    """How many of the window's clusters are not zero."""
    content: str
    """Digest of the window."""


class DiskSource:
    """One disk of a box in the store, to read its windows from; several threads may."""

    def __init__(self, path: Path, image: BoxImage) -> None:
        self.path, self.size = path, image.virtual_size
        self.window = window_size(self.size)
        self._mapped = _Qcow2Map(path) if image.format == "qcow2" else None

    @property
    def numbers(self) -> range:
        """Of all its windows."""
        return range(-(-self.size // self.window))

    def length(self, number: int) -> int:
        """Bytes of a window."""
        return min(self.window, self.size - number * self.window)

    def has_data(self, number: int) -> bool:
        """Whether a window may be anything but zeros; quick."""
        start = number * self.window
        return self._mapped is None or self._mapped.has_data(start, start + self.length(number))

    def pack(self, number: int, scratch: Path, target: Path) -> Packed | None:
        """Compress a window into ``target``; None when it is all zeros.

        Raises:
            NoSpace: the disk is full.
            VmctlError: qemu-img failed.
            Interrupted: the user asked to stop.
        """
        if not self.has_data(number):
            return None
        with space.needed(target.parent, "to compress a disk"), self.opened(number, scratch) as stream:
            return _compressed(stream, self.length(number), target)

    @contextmanager
    def opened(self, number: int, scratch: Path) -> Iterator[BinaryIO]:
        """The disk, at the beginning of a window; the file ``scratch`` may be made meanwhile."""
        start = number * self.window
        if self._mapped is None:
            with self.path.open("rb") as stream:
                stream.seek(start)
                yield stream
            return
        of = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": str(self.path)}}
        part = {"driver": "raw", "offset": start, "size": self.length(number), "file": of}
        try:
            argv = [process.find("qemu-img", package="qemu-utils"), "convert", "-O", "raw", "--"]
            process.run([*argv, f"json:{json.dumps(part)}", scratch])
            with scratch.open("rb") as stream:
                yield stream
        finally:
            scratch.unlink(missing_ok=True)


def pieces(stream: BinaryIO, length: int) -> Iterator[bytes]:
    """The next ``length`` bytes; the user can stop in between.

    Raises:
        OSError: there are fewer.
    """
    left = length
    while left:
        interrupt.check()
        data = stream.read(min(READ, left))
        if not data:
            raise OSError("a disk ends early")
        left -= len(data)
        yield data


def clusters_of(data: bytes) -> int:
    """How many clusters are not zero."""
    return sum(data[at : at + CLUSTER] != ZERO[: len(data) - at] for at in range(0, len(data), CLUSTER))


def compress(parts: Iterable[bytes], size: int, target: Path) -> Blob:
    """Compress ``parts``, which have ``size`` bytes together, into ``target``."""
    from vmctl.boxes import compression

    packer: Any = compression.zstd_library().ZstdCompressor(level=LEVEL)
    packer.set_pledged_input_size(size)
    hashing, written, left = hashlib.sha256(), 0, size
    with target.open("wb") as out:
        for data in parts:
            left -= len(data)
            packed = packer.compress(data, packer.CONTINUE if left else packer.FLUSH_FRAME)
            hashing.update(packed)
            written += out.write(packed)
    return Blob(digest=f"sha256:{hashing.hexdigest()}", size=written)


def _compressed(stream: BinaryIO, length: int, target: Path) -> Packed | None:
    content, clusters = hashlib.sha256(), 0

    def reported() -> Iterator[bytes]:
        nonlocal clusters
        for data in pieces(stream, length):
            content.update(data)
            clusters += clusters_of(data)
            yield data

    made = compress(reported(), length, target)
    return Packed(blob=made, clusters=clusters, content=f"sha256:{content.hexdigest()}") if clusters else None


class _Qcow2Map:
    """Which parts of a qcow2 hold anything, by its tables; a part that is marked as zeros counts as held."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as stream:
            head = stream.read(112)
            _, version, _, _, self._bits, _, _, l1_size, l1_offset = HEADER.unpack_from(head)
            features = struct.unpack_from(">Q", head, 72)[0] if version > 2 else 0  # noqa: PLR2004  qcow2's versions
            self._words = 2 if features & EXTENDED_L2 else 1
            self._l1 = _numbers(stream, l1_offset, l1_size)

    def has_data(self, start: int, end: int) -> bool:
        """Whether there is anything from ``start`` to ``end``."""
        entries = (1 << self._bits) // 8 // self._words
        span = entries << self._bits
        with self._path.open("rb") as stream:
            for index in range(start // span, min(-(-end // span), len(self._l1))):
                table = self._l1[index] & OFFSET_MASK
                if not table:
                    continue
                first = max(0, (start - index * span) >> self._bits)
                last = min(entries, -(-(end - index * span) >> self._bits))
                offset, count = table + first * 8 * self._words, (last - first) * self._words
                if any(_numbers(stream, offset, count)):
                    return True
        return False


def _numbers(stream: BinaryIO, offset: int, count: int) -> array[int]:
    stream.seek(offset, os.SEEK_SET)
    found = array("Q", stream.read(count * 8))
    if sys.byteorder == "little":
        found.byteswap()
    return found
