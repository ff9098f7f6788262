"""The disks of a box put together from its windows, which come in parallel; taken up again after any end.

While they come, a file for each disk, one for each window on its way, and a journal of the windows that are in their
places lie in ``downloads/``. A window counts once it is on the disk.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from vmctl import interrupt, json_text
from vmctl.boxes import compression, space
from vmctl.boxes.oci import qcow2_layout
from vmctl.boxes.oci.disk_building import Building, Stack
from vmctl.boxes.oci.qcow2_layout import CLUSTER, Layout
from vmctl.boxes.oci.registry_client import Registry
from vmctl.boxes.oci.window_layers import Senseless, Stacks, WindowLayer
from vmctl.boxes.oci.windows import DiskSource
from vmctl.events import Progress, Report
from vmctl.layout import HomeLayout
from vmctl.store import door, files

STEP = "pull_box"
WORKERS = 4
REPORT_EVERY = 0.2


class Assembly:
    """All windows of a box on their way into files in ``downloads/``."""

    def __init__(
        self, registry: Registry, home: HomeLayout, report: Report, *, digest: str, layouts: Sequence[Layout],
        stacks: Stacks, known: Sequence[DiskSource | None] = (),
    ) -> None:  # fmt: skip
        stem = f"oci-{hashlib.sha256(digest.encode()).hexdigest()[:40]}"
        self.registry, self.home, self.layouts, self.report = registry, home, layouts, report
        self.journal = home.downloads / f"{stem}.windows"
        self.paths = [home.downloads / f"{stem}.disk-{number}" for number in range(len(layouts))]
        self.places = [one.places() for one in layouts]
        self.stacks = stacks
        self.building = Building(registry, self.journal, known, on_bytes=self._came, room=self._take_room)
        self.bitmaps: list[dict[int, bytes]] = [{} for _ in layouts]
        self.total = sum(_sizes(stacks.values()).values())
        self.came = 0
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._reported_at = 0.0
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
                    qcow2_layout.finish(stream.fileno(), self.layouts[number], self.bitmaps[number])
        self._tell(last=True)
        return self.paths

    def forget(self) -> None:
        """Remove what only a resumed pull needs."""
        files.remove(self.journal)

    def _missing(self) -> list[list[Stack]]:
        """The windows that are yet to come: those that are made of the same together."""
        by: dict[object, list[Stack]] = {}
        for (disk, window), stack in self.stacks.items():
            if window not in self.bitmaps[disk]:
                size = self.layouts[disk].length(window)
                by.setdefault((size, *(one.blob.digest for one in stack)), []).append(stack)
        return list(by.values())

    def _require_room(self, missing: Sequence[Sequence[Stack]]) -> None:
        needed = sum(stack[-1].place.clusters * CLUSTER for group in missing for stack in group)
        space.require(self.home.downloads, needed, f"to pull {self.registry.reference}")
        self.came = self.total - sum(_sizes(stack for group in missing for stack in group).values())

    def _take_up(self) -> None:
        """Believe the journal of an earlier pull of this very manifest, where it makes sense."""
        wanted = set(self.stacks)
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

    def _have(self, group: Sequence[Stack]) -> None:
        """Have a window, and put it to all its places."""
        if self._stop.is_set():
            return
        place = group[0][-1].place
        with ExitStack() as work:
            opened = work.enter_context(self.building.built(group[0], self.layouts[place.disk].length(place.window)))
            bitmaps: list[tuple[WindowLayer, bytes]] = []
            for stack in group:
                with opened() as stream:
                    bitmaps.append((stack[-1], self._placed(stack[-1], stream)))
            # What was fetched goes before the disk is written: then it never gets there. One window at a time, so that
            # a kill costs one.
            with self._settling:
                work.close()
                self._note(bitmaps)

    def _placed(self, one: WindowLayer, stream: BinaryIO) -> bytes:
        """Put a window to its place; which of its clusters are not zero."""
        number, window = one.place.disk, one.place.window
        length = self.layouts[number].length(window)
        with _opened(self.paths[number]) as target:
            try:
                return qcow2_layout.write_window(
                    target.fileno(), stream.read, length, self.places[number][window], one.place.clusters
                )
            except (compression.DamagedStream, qcow2_layout.WindowMismatch) as error:
                raise Senseless(f"window {window} of disk {number}: {error}") from error

    def _note(self, bitmaps: Sequence[tuple[WindowLayer, bytes]]) -> None:
        """Note windows in the journal, once they are on the disk."""
        for number in {one.place.disk for one, _ in bitmaps}:
            with _opened(self.paths[number]) as target:
                os.fdatasync(target.fileno())
        for one, bitmap in bitmaps:
            self.bitmaps[one.place.disk][one.place.window] = bitmap
            line = [one.place.disk, one.place.window, bitmap.hex()]
            files.append(self.journal, json.dumps(line) + "\n")

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
        if last or now - self._reported_at >= REPORT_EVERY:
            self._reported_at = now
            self.report(Progress(step=STEP, done=min(self.came, self.total), total=self.total))


def _sizes(stacks: Iterable[Stack]) -> dict[str, int]:
    """Of the blobs of some windows, by digest."""
    return {one.blob.digest: one.blob.size for stack in stacks for one in stack}


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
