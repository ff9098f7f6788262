"""Copying what streams by: a run of zeros becomes a hole, whatever it cost in the archive; hashed and reported on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import BinaryIO

from vmctl import interrupt
from vmctl.boxes import compression
from vmctl.boxes.checksum import Hashing
from vmctl.boxes.space import Room
from vmctl.events import Progress, Report
from vmctl.spec import GIB

CHUNK = 256 * 1024
ZEROS = bytes(CHUNK)
LARGEST = 1024 * GIB
UNQUESTIONED = 32 * GIB
RATIO = 2000
"""Zeros shrink a thousandfold and more, real disks do not: what claims to is a bomb, and hashing it takes minutes."""


def bound(packed: int) -> int:
    """To how many bytes, holes included, ``packed`` bytes of a stranger's may unpack."""
    return min(LARGEST, max(UNQUESTIONED, packed * RATIO))


def copy(read: Callable[[int], bytes], target: BinaryIO, *, limit: int | None = None, room: Room | None = None) -> int:
    """Copy until ``read`` has no more, and return how many bytes that were; ``target`` is new and empty.

    Raises:
        TooLong: there is more than ``limit`` bytes.
        NoSpace: there is no more ``room``.
        Interrupted: the user asked to stop.
    """
    total = 0
    while block := read(CHUNK):
        interrupt.check()
        total += len(block)
        if limit is not None and total > limit:
            raise TooLong
        if block == ZEROS[: len(block)]:
            target.seek(len(block), os.SEEK_CUR)
        else:
            if room:
                room.take(len(block))
            target.write(block)
    target.truncate(total)
    return total


class TooLong(Exception):
    """There is more data than was allowed; a caller that knows whose data it is turns this into its error."""


REPORT_EVERY = 0.2  # seconds


def hashed(source: BinaryIO, hashing: Hashing) -> Callable[[int], bytes]:
    """``source.read`` that also hashes."""

    def read(size: int) -> bytes:
        data = source.read(size)
        hashing.update(data)
        return data

    return read


class Meter:
    """A file that is read, hashed and reported on in one go."""

    def __init__(self, stream: BinaryIO, hashing: Hashing, report: Report, *, step: str) -> None:
        self._stream = stream
        self._hashing = hashing
        self._report = report
        self._step = step
        self._total = os.fstat(stream.fileno()).st_size
        self._reported = time.monotonic()

    def peek(self) -> bytes:
        """The first bytes, which are read again."""
        head = self._stream.read(compression.SNIFFED)
        self._stream.seek(0)
        return head

    def read(self, size: int = -1) -> bytes:
        """As a file's."""
        data = self._stream.read(size)
        self._hashing.update(data)
        if time.monotonic() - self._reported >= REPORT_EVERY:
            self._reported = time.monotonic()
            self._report(Progress(step=self._step, done=self._hashing.size, total=self._total))
        return data

    def drain(self) -> None:
        """Read the rest, for the hash."""
        while self.read(CHUNK):
            interrupt.check()
