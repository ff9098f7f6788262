"""The disks of a box put together from its windows, which come in parallel; taken up again after any end.

While they come, a file for each disk, one for each window on its way, and a journal of the windows that are in their
places lie in ``downloads/``. A window counts once it is on the disk.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vmctl import interrupt, json_text
from vmctl.boxes import compression, space
from vmctl.boxes.oci import layout
from vmctl.boxes.oci.artifact import Layer, Senseless
from vmctl.boxes.oci.layout import CLUSTER, Layout
from vmctl.boxes.oci.registry import Registry
from vmctl.events import Progress, Report
from vmctl.layout import HomeLayout
from vmctl.store import door, files

STEP = "pull_box"
WORKERS = 4
REPORT_EVERY = 0.2
WINDOW_LOG = 24
"""Of the memory that unpacking a window may take: 16 MiB; vmctl's own windows take 2."""


class Assembly:
    """All windows of a box on their way into files in ``downloads/``."""

    def __init__(
        self, registry: Registry, home: HomeLayout, report: Report, *, digest: str, layouts: Sequence[Layout],
        layers: Sequence[Layer],
    ) -> None:  # fmt: skip
        stem = f"oci-{hashlib.sha256(digest.encode()).hexdigest()[:40]}"
        self.registry, self.home, self.layouts, self.report = registry, home, layouts, report
        self.journal = home.downloads / f"{stem}.windows"
        self.paths = [home.downloads / f"{stem}.disk-{number}" for number in range(len(layouts))]
        self.places = [one.places() for one in layouts]
        self.layers = layers
        self.bitmaps: list[dict[int, bytes]] = [{} for _ in layouts]
        self.total = sum({one.blob.digest: one.blob.size for one in self.layers}.values())
        self.came = 0
        self._lock = threading.Lock()
        self._told = 0.0
        self._stop = threading.Event()
        self.room = space.Room(home.downloads, f"to pull {registry.reference}")

    def run(self) -> list[Path]:
        """Have them all; the files of the disks, complete."""
        files.make_directory(self.home.downloads)
        with space.needed(self.home.downloads, f"to pull {self.registry.reference}"):
            self._take_up()
            missing = self._missing()
            self._require_room(missing)
            self._in_parallel([functools.partial(self._have, one) for one in missing])
            for number, path in enumerate(self.paths):
                with _opened(path) as stream:
                    layout.finish(stream.fileno(), self.layouts[number], self.bitmaps[number])
        self._tell(last=True)
        return self.paths

    def forget(self) -> None:
        """Remove what only a resumed pull needs."""
        files.remove(self.journal)

    def _missing(self) -> list[list[Layer]]:
        """What is yet to come: the places of each blob together."""
        by: dict[str, list[Layer]] = {}
        for one in self.layers:
            if one.place.window not in self.bitmaps[one.place.disk]:
                by.setdefault(one.blob.digest, []).append(one)
        return list(by.values())

    def _require_room(self, missing: Sequence[Sequence[Layer]]) -> None:
        needed = sum(one.place.clusters * CLUSTER for group in missing for one in group)
        space.require(self.home.downloads, needed, f"to pull {self.registry.reference}")
        self.came = self.total - sum(group[0].blob.size for group in missing)

    def _take_up(self) -> None:
        """Believe the journal of an earlier pull of this very manifest, where it makes sense."""
        wanted = {(one.place.disk, one.place.window) for one in self.layers}
        try:
            lines = files.read(self.journal).splitlines()
        except FileNotFoundError:
            lines = []
        if not lines or not all(map(files.exists, self.paths)):
            self._anew()
            return
        for line in lines:
            with _ignored():  # the last line of a killed pull may be cut
                disk, window, bitmap = json_text.loads(line)
                if (disk, window) in wanted:
                    self.bitmaps[disk][window] = bytes.fromhex(bitmap)
        for number, found in enumerate(self.bitmaps):
            clusters = self.layouts[number].clusters
            for window in [one for one in found if found[one] and _count(found[one]) != clusters[one]]:
                del found[window]

    def _anew(self) -> None:
        files.remove(self.journal)
        for path in self.paths:
            files.remove(path)
            _opened(path).close()

    def _in_parallel(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Do all; the first failure ends them."""
        with ThreadPoolExecutor(WORKERS) as pool:
            futures: set[Future[None]] = {pool.submit(task) for task in tasks}
            try:
                while futures:
                    done, futures = wait(futures, timeout=0.1, return_when=FIRST_COMPLETED)
                    interrupt.check()
                    for one in done:
                        one.result()
                    self._tell()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _have(self, group: Sequence[Layer]) -> None:
        """Fetch a blob and put it to its places."""
        if self._stop.is_set():
            return
        found = group[0].blob
        part = self.journal.with_suffix(f".{found.digest.removeprefix('sha256:')[:40]}.part")
        self.registry.fetch(found, part, told=self._came, room=self._take_room)
        try:
            for one in group:
                self._place(one, part)
        except Senseless:
            files.remove(part)
            raise
        files.remove(part)

    def _place(self, one: Layer, part: Path) -> None:
        number, window = one.place.disk, one.place.window
        length = self.layouts[number].length(window)
        with _opened(self.paths[number]) as target, files.open_to_read(part) as packed:
            try:
                stream = compression.opened(packed, dataclasses.replace(compression.ZSTD, new=_decompressor))
                bitmap = layout.write_window(
                    target.fileno(), stream.read, length, self.places[number][window], one.place.clusters
                )
            except (compression.DamagedStream, layout.Mismatch) as error:
                raise Senseless(f"window {window} of disk {number}: {error}") from error
            os.fdatasync(target.fileno())
        with self._lock:
            self.bitmaps[number][window] = bitmap
            files.append(self.journal, json.dumps([number, window, bitmap.hex()]) + "\n")

    def _came(self, size: int) -> None:
        if self._stop.is_set():
            raise interrupt.error()
        with self._lock:
            self.came += size

    def _take_room(self, size: int) -> None:
        with self._lock:
            self.room.take(size)

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._told >= REPORT_EVERY:
            self._told = now
            self.report(Progress(step=STEP, done=min(self.came, self.total), total=self.total))


def _decompressor() -> Any:
    library = compression.zstd_library()
    return library.ZstdDecompressor(options={library.DecompressionParameter.window_log_max: WINDOW_LOG})


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, IndexError, KeyError):
        return


def _count(bitmap: bytes) -> int:
    return int.from_bytes(bitmap).bit_count()


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(door.open_file(path, os.O_RDWR | os.O_CREAT, make=True), "r+b")
