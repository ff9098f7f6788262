"""Reading a file once for everything: its content, its hash, and how far the reading is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import BinaryIO

from vmctl import interrupt
from vmctl.boxes import compression, sparse
from vmctl.boxes.checksum import Hashing
from vmctl.events import Progress, Report

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
        while self.read(sparse.CHUNK):
            interrupt.check()
