"""Compressed streams, told by their first bytes and read in constant memory.

A file is never believed by its name: servers rename, and people too.
"""

from __future__ import annotations

import io
import lzma
import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from vmctl import interrupt

CHUNK = 1024**2
READ = 64 * 1024
"""How much is read at once: what follows a stream is copied for the next one, and a file may hold millions of them."""
SNIFFED = 6
"""How many first bytes tell a compression."""
XZ_MEMORY = 96 * 1024**2
"""What a .xz may ask for; ``xz -9`` asks for 65 MiB, a hostile file for gigabytes."""
PADDING = b"\0"
"""What may follow a compressed stream: tape programs fill their last block."""


class DamagedStream(Exception):
    """Compressed data ends early or makes no sense. A caller that knows the file's name turns it into its error."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Compression:
    """One way of compressing: its name, its first bytes, and what undoes it."""

    name: str
    magic: bytes
    suffix: str
    new: Callable[[], _Decompressor]


class _Gzip:
    """zlib's decompressor with the manners of bz2's and lzma's."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))


def _bzip2() -> _Decompressor:
    import bz2

    return bz2.BZ2Decompressor()


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)


def _zstd() -> _Decompressor:
    return zstd_library().ZstdDecompressor()  # type: ignore[no-any-return]  # the library is chosen at run time


def zstd_library() -> Any:
    """The module that compresses and decompresses zstd."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


ZSTD = Compression("zstd", b"\x28\xb5\x2f\xfd", ".zst", _zstd)
COMPRESSIONS = (
    Compression("gzip", b"\x1f\x8b\x08", ".gz", _Gzip),
    Compression("xz", b"\xfd7zXZ\0", ".xz", _xz),
    ZSTD,
    Compression("bzip2", b"BZh", ".bz2", _bzip2),
)


def sniff(head: bytes) -> Compression | None:
    """The compression that data with these first bytes has; None for none that is known."""
    return next((one for one in COMPRESSIONS if head.startswith(one.magic)), None)


def opened(source: BinaryIO, compression: Compression) -> BinaryIO:
    """The decompressed content of ``source``, which stays the caller's to close.

    Reading raises ``DamagedStream`` where the data ends early or makes no sense.
    """
    return io.BufferedReader(_Reader(source, compression), CHUNK)


def file_size(source: BinaryIO) -> int:
    """Bytes of the file that is read, as they lie on the disk, whether or not they are decompressed on the way."""
    raw = getattr(source, "raw", None)
    return os.fstat((raw.source if isinstance(raw, _Reader) else source).fileno()).st_size


class _Reader(io.RawIOBase):
    """Decompresses one stream after another (``cat a.gz b.gz`` is a valid file), never more than was asked for."""

    def __init__(self, source: BinaryIO, compression: Compression) -> None:
        self.source = source
        self._compression = compression
        self._stream = compression.new()
        self._pending = b""  # compressed data that was read, but belongs to the next stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        while True:
            if self._stream.eof and not self._next_stream():
                return b""
            fresh = self._more() if self._stream.needs_input else b""
            if self._stream.needs_input and not fresh:
                raise DamagedStream(f"the {self._compression.name} data ends early")
            if data := self._decompress(fresh, size):
                return data

    def _more(self) -> bytes:
        pending, self._pending = self._pending, b""
        interrupt.check()
        return pending or self.source.read(READ)

    def _decompress(self, data: bytes, size: int) -> bytes:
        try:
            return self._stream.decompress(data, size)
        except _faults(self._compression) as error:
            raise DamagedStream(f"the {self._compression.name} data is damaged: {error}") from error

    def _next_stream(self) -> bool:
        """Go on with the stream behind the one that ended; False at the end of the data."""
        rest = self._stream.unused_data or self._more()
        while rest and not (rest := rest.lstrip(PADDING)):
            rest = self._more()
        self._pending = rest
        self._stream = self._compression.new() if rest else self._stream
        return bool(rest)


def _faults(compression: Compression) -> tuple[type[Exception], ...]:
    known = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)
    return (*known, zstd_library().ZstdError) if compression.name == "zstd" else known
