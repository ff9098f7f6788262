"""The windows of a disk, as they travel: 64 MiB of what the guest sees, compressed; a window of zeros stays at home."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import Struct

from vmctl import interrupt, process
from vmctl.boxes import space
from vmctl.boxes.image import EXTENDED_L2, HEADER, OFFSET_MASK
from vmctl.boxes.oci.layout import CLUSTER, ZERO
from vmctl.spec import MIB

if TYPE_CHECKING:
    from vmctl.boxes.box import FurtherDisk

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
    """A window, compressed into a file."""

    digest: str
    size: int
    clusters: int
    """How many of its clusters are not zero."""


class Source:
    """One disk of a box in the store, to read its windows from; several threads may."""

    def __init__(self, path: Path, image: FurtherDisk) -> None:
        self.path, self.size = path, image.virtual_size
        self.window = window_size(self.size)
        self._mapped = _Qcow2Map(path) if image.format == "qcow2" else None

    @property
    def numbers(self) -> range:
        """Of all its windows."""
        return range(-(-self.size // self.window))

    def pack(self, number: int, scratch: Path, target: Path) -> Packed | None:
        """Compress a window into ``target``; None when it is all zeros.

        Raises:
            NoSpace: the disk is full.
            VmctlError: qemu-img failed.
            Interrupted: the user asked to stop.
        """
        start = number * self.window
        length = min(self.window, self.size - start)
        if self._mapped and not self._mapped.has_data(start, start + length):
            return None
        with space.needed(target.parent, "to compress a disk"), self._opened(start, length, scratch) as stream:
            return _compressed(stream, length, target)

    @contextmanager
    def _opened(self, start: int, length: int, scratch: Path) -> Iterator[BinaryIO]:
        """The disk, at the beginning of a window."""
        if self._mapped is None:
            with self.path.open("rb") as stream:
                stream.seek(start)
                yield stream
            return
        of = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": str(self.path)}}
        part = {"driver": "raw", "offset": start, "size": length, "file": of}
        try:
            argv = [process.find("qemu-img", package="qemu-utils"), "convert", "-O", "raw", "--"]
            process.run([*argv, f"json:{json.dumps(part)}", scratch])
            with scratch.open("rb") as stream:
                yield stream
        finally:
            scratch.unlink(missing_ok=True)


def _compressed(stream: BinaryIO, length: int, target: Path) -> Packed | None:
    from vmctl.boxes import compression

    packer: Any = compression.zstd_library().ZstdCompressor(level=LEVEL)
    packer.set_pledged_input_size(length)
    hashing, size, clusters, left = hashlib.sha256(), 0, 0, length
    with target.open("wb") as out:
        while left:
            interrupt.check()
            data = stream.read(min(READ, left))
            if not data:
                raise OSError(f"{target} ends early")
            left -= len(data)
            clusters += sum(data[at : at + CLUSTER] != ZERO[: len(data) - at] for at in range(0, len(data), CLUSTER))
            packed = packer.compress(data, packer.FLUSH_FRAME if not left else packer.CONTINUE)
            hashing.update(packed)
            size += out.write(packed)
    return Packed(digest=f"sha256:{hashing.hexdigest()}", size=size, clusters=clusters) if clusters else None


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
