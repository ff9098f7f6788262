"""A window out of its layers: the blobs of a registry, or what the parent in the store has, and the changes on top."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vmctl.boxes import compression, streams
from vmctl.boxes.oci import delta
from vmctl.boxes.oci.qcow2_layout import WindowMismatch
from vmctl.boxes.oci.registry_client import Registry
from vmctl.boxes.oci.window_layers import Senseless, WindowLayer
from vmctl.boxes.oci.windows import DiskSource, pieces
from vmctl.process import CommandFailed, ProgramMissing
from vmctl.store import files

WINDOW_LOG = 24
"""Of the memory that unpacking a window may take: 16 MiB; vmctl's own windows take 2."""

Stack = tuple[WindowLayer, ...]
Open = Callable[[], AbstractContextManager[BinaryIO]]


class Building:
    """Makes windows; several threads may use it."""

    def __init__(
        self, registry: Registry, beside: Path, known: Sequence[DiskSource | None], *, on_bytes: Callable[[int], None],
        room: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.registry, self.beside, self.known = registry, beside, known
        self.on_bytes, self.room = on_bytes, room
        self._lock = threading.Lock()
        self._of: dict[str, threading.Lock] = {}

    @contextmanager
    def built(self, stack: Stack, length: int) -> Iterator[Open]:
        """What opens the window, from its beginning, as often as it is called.

        Raises:
            Senseless: its layers are not what they should be.
            RegistryError, Interrupted, NoSpace: as ``Registry.fetch``; what came is kept.
        """
        if len(stack) == 1 and not (stack[0].inherited and self.known):
            with self._fetched(stack[0]) as part:
                yield lambda: _unpacked(part)
            return
        place = stack[-1].place
        raw = self.beside.with_suffix(f".{place.disk}-{place.window}.raw")
        try:
            for one in stack if not self._from_known(stack, length, raw) else self._own(stack):
                with self._fetched(one) as part:
                    self._lay(one, part, raw, length)
            if self._own(stack) and _content(raw) != stack[-1].content:
                raise Senseless(f"window {place.window} of disk {place.disk} is not what its changes should make of it")
            yield lambda: files.open_to_read(raw)
        finally:
            files.remove(raw)

    @staticmethod
    def _own(stack: Stack) -> Stack:
        return tuple(one for one in stack if not one.inherited)

    def _from_known(self, stack: Stack, length: int, raw: Path) -> bool:
        """Begin with the parent's window, where the store has it; whether it is what the registry says that it is."""
        inherited = [one for one in stack if one.inherited]
        place = stack[-1].place
        if not inherited or place.disk >= len(self.known):
            return False
        source = self.known[place.disk]
        if source is None or place.window not in source.numbers or source.length(place.window) > length:
            return False
        try:
            with source.opened(place.window, raw.with_suffix(".old")) as stream, raw.open("wb") as target:
                streams.copy(_limited(stream, source.length(place.window)), target)
                target.truncate(length)
        except (CommandFailed, ProgramMissing, OSError):
            return False
        if _content(raw) != inherited[-1].content:
            return False
        self.on_bytes(sum(one.blob.size for one in inherited))
        return True

    def _lay(self, one: WindowLayer, part: Path, raw: Path, length: int) -> None:
        with _unpacked(part) as stream:
            try:
                if not one.delta:
                    with raw.open("wb") as target:
                        got = streams.copy(stream.read, target, limit=length)
                    if got != length:
                        raise Senseless(f"it ends after {got} of {length} bytes")
                    return
                with raw.open("r+b") as target:
                    delta.apply(stream.read, target.fileno(), length)
            except (compression.DamagedStream, WindowMismatch, streams.TooLong) as error:
                raise Senseless(f"window {one.place.window} of disk {one.place.disk}: {error}") from error

    @contextmanager
    def _fetched(self, one: WindowLayer) -> Iterator[Path]:
        """The blob in a file, which goes once it was of use; one that makes no sense goes, too."""
        digest = one.blob.digest.removeprefix("sha256:")[:40]
        with self._lock:
            mine = self._of.setdefault(digest, threading.Lock())
        part = self.beside.with_suffix(f".{digest}.part")
        with mine:
            self.registry.fetch(one.blob, part, on_bytes=self.on_bytes, room=self.room)
            try:
                yield part
            except Senseless:
                files.remove(part)
                raise
            files.remove(part)


@contextmanager
def _unpacked(part: Path) -> Iterator[BinaryIO]:
    with files.open_to_read(part) as packed:
        yield compression.opened(packed, dataclasses.replace(compression.ZSTD, new=_decompressor))


def _decompressor() -> Any:
    library = compression.zstd_library()
    return library.ZstdDecompressor(options={library.DecompressionParameter.window_log_max: WINDOW_LOG})


def _limited(stream: BinaryIO, length: int) -> Callable[[int], bytes]:
    """Reads the next ``length`` bytes of a stream and no more."""
    left = length

    def read(size: int) -> bytes:
        nonlocal left
        data = stream.read(min(size, left))
        left -= len(data)
        return data

    return read


def _content(path: Path) -> str:
    """Digest of a window that lies in a file of its own."""
    hashing = hashlib.sha256()
    with files.open_to_read(path) as stream:
        for data in pieces(stream, files.size(path)):
            hashing.update(data)
    return f"sha256:{hashing.hexdigest()}"
