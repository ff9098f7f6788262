"""A box of the store into a registry: windows that are not there yet, then config, manifest and index.

The tag changes last, so that whoever pulls meanwhile gets the old box or the new one, whole. A push that was ended goes
on where it was: what the registry has is asked for first.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl import interrupt
from vmctl.boxes import space
from vmctl.boxes.box import OCI, OWN, RECIPE, Box
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.oci import artifact, delta, parents, upload
from vmctl.boxes.oci.artifact import Config, DiskInfo, IndexEntry
from vmctl.boxes.oci.parents import Parent
from vmctl.boxes.oci.reference import Reference, is_oci
from vmctl.boxes.oci.registry_client import MANIFEST, Blob, Registry, digest_of
from vmctl.boxes.oci.transport import Transport
from vmctl.boxes.oci.upload import Upload
from vmctl.boxes.oci.window_layers import Place, WindowLayer
from vmctl.boxes.oci.windows import DiskSource, Packed
from vmctl.boxes.web import Access
from vmctl.errors import UsageError, WrongState
from vmctl.events import Notice, Progress, Report, StepDone, StepStarted, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.store import files

STEP = "push_box"
WORKERS = 3
"""Windows at once: one of them is compressed while others are sent."""
REPORT_EVERY = 0.2
MOST_SOURCES = 3
AS_WELL = 1.05
"""How much more a whole window may be than what changed in it, and go in its place."""
PUSHED_KEYS = ("seeding", "recipe", "packages", "checksum")
"""What of a box's provenance goes along: nothing about this host."""


class Pushed(Struct, frozen=True, kw_only=True):
    """What a push brought."""

    reference: Reference
    """By digest: the manifest of this architecture."""
    tags: tuple[str, ...]
    sent: int
    """Bytes of blobs that had to be sent."""
    size: int
    """Bytes of all blobs, the parent's as well."""
    parent: str = ""
    """The box that it stands on, of which only the differences went; "" = none."""


def push(box: Box, target: str, home: HomeLayout, access: Access, *, report: Report = ignore) -> Pushed:
    """Bring a box into a registry.

    Without a tag in ``target``, it gets the box's version and ``latest``.

    Raises:
        UsageError: the address makes no sense, or the tag leads to something that is not a box.
        RegistryError, Denied: the registry cannot be asked, or takes no box.
        NoSpace: there is no room for a compressed window.
        Interrupted: the user asked to stop; pushing again goes on.
    """
    reference = Reference.parse(target)
    if reference.digest:
        raise UsageError(f"{target}: the digest follows from the box", hint="leave @sha256:… out")
    names = upload.tags_for(reference, box.version)
    started = time.monotonic()
    report(StepStarted(step=STEP, text=f"pushing {box} to {reference}"))
    _warn(box, report)
    with Transport(reference, access, report=report) as transport:
        registry = Registry(transport)
        for tag in names:
            upload.tagged(registry, tag)  # refuses what is not a box, before anything is sent
        parent, before = _parent(box, registry, home, report)
        pushing = _Pushing(box, registry, home, report, parent)
        manifest = pushing.run()
        for tag in names:
            upload.publish_tag(registry, tag, IndexEntry(blob=manifest, arch=box.arch, kind=MANIFEST))
    done = Pushed(
        reference=reference.pinned(manifest.digest), tags=names, sent=before + pushing.sent, size=pushing.size,
        parent=str(parent.box) if parent else "",
    )  # fmt: skip
    BoxStore(home).annotate(box, stamps={str(reference.tagged(names[0])): manifest.digest})
    report(StepDone(step=STEP, seconds=time.monotonic() - started, changed=done.sent > 0, text=str(done.reference)))
    return done


def _parent(
    box: Box, registry: Registry, home: HomeLayout, report: Report, *, above: frozenset[str] = frozenset()
) -> tuple[Parent | None, int]:
    """The box that this one stands on, in the repository; and how many bytes it took to have it there.

    Boxes that are said to stand on each other (``above`` has digests of those that stand on this one) do not.
    """
    standing = parents.box_of(box, BoxStore(home))
    if standing is None or standing.digest in above:
        return None, 0
    if found := parents.known(standing, registry):
        return found, 0
    report(Notice(text=f"{box} stands on {standing}, so this once all of that is sent along"))
    _warn(standing, report)
    lower, sent = _parent(standing, registry, home, report, above=above | {box.digest})
    pushing = _Pushing(standing, registry, home, report, lower)
    digest = pushing.run().digest
    BoxStore(home).annotate(standing, stamps={str(registry.transport.reference.pinned(digest)): digest})
    return parents.of(standing, digest, pushing.layers), sent + pushing.sent


def _warn(box: Box, report: Report) -> None:
    if box.first_key == OWN or box.first_password:
        text = f"{box} brings the key or password of its first login along: whoever may pull it can read that"
        report(Warned(text=text))


class _Pushing:
    """One box on its way into a repository."""

    def __init__(
        self, box: Box, registry: Registry, home: HomeLayout, report: Report, parent: Parent | None
    ) -> None:  # fmt: skip
        self.box, self.registry, self.home, self.report, self.parent = box, registry, home, report, parent
        self.disks = parents.sources(box)
        self.beneath = parents.alike(parent.box, parents.forms(box)) if parent else ()
        self.layers: list[WindowLayer] = []
        if len(self.disks) > artifact.MOST_DISKS:
            raise WrongState(f"{box} has {len(self.disks)} disks; at most {artifact.MOST_DISKS} can be pushed")
        self.sources = tuple(_sources(box, home, registry.transport.reference))
        self.sent = self.size = 0
        self._lock = threading.Lock()
        self._of: dict[str, threading.Lock] = {}
        self._stop = threading.Event()
        self._token = f"push-{secrets.token_hex(8)}"
        self._reported_at = 0.0
        self._done = 0

    def run(self) -> Blob:
        """Bring all but the tag; the manifest."""
        files.make_directory(self.home.downloads)
        self.layers = self._windows()
        if len(self.layers) > artifact.MOST_LAYERS:  # of large disks that were changed often
            self.parent, self.beneath = None, ()
            self.layers = self._windows()
        self.size += sum({one.blob.digest: one.blob.size for one in self.layers if one.inherited}.values())
        config = self._config()
        blob = self._small(artifact.config_bytes(config))
        stands = {"parent": self.parent.digest, "base": self.parent.box.digest} if self.parent else {}
        manifest = artifact.manifest_bytes(config, blob, self.layers, created=_time(self.box), **stands)
        self.registry.put_manifest(digest_of(manifest), manifest, MANIFEST)
        return Blob(digest=digest_of(manifest), size=len(manifest))

    def _windows(self) -> list[WindowLayer]:
        places = [(disk, number) for disk, source in enumerate(self.disks) for number in source.numbers]
        found: list[WindowLayer] = []
        with ThreadPoolExecutor(WORKERS) as pool:
            futures: set[Future[tuple[WindowLayer, ...]]] = {pool.submit(self._window, *place) for place in places}
            try:
                while futures:
                    done, futures = wait(futures, timeout=0.1, return_when=FIRST_COMPLETED)
                    interrupt.check()
                    results = [one.result() for one in done]
                    found += [layer for stack in results for layer in stack]
                    self._tell(len(results), len(places))
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if not found:
            raise WrongState(f"{self.box} is all zeros")
        return sorted(found, key=lambda layer: (layer.place.disk, layer.place.window))

    def _window(self, disk: int, number: int) -> tuple[WindowLayer, ...]:
        """The layers of a window, in the repository; none for one of zeros."""
        if self._stop.is_set():
            return ()
        source = self.disks[disk]
        old = self.beneath[disk] if self.parent else None
        below = self.parent.below(old, disk, number, source.window) if self.parent and old else ()
        packed = self._scratch(f"{disk}-{number}.zst")
        try:
            made = self._changed(source, old, number, packed, below) if below and old else None
            below = below if made else ()
            made = made or source.pack(number, _raw(packed, "new"), packed)
            if made is None:
                return ()
            self._bring(made.blob, packed)
        except delta.Same:
            return below
        finally:
            packed.unlink(missing_ok=True)
        place = Place(disk=disk, window=number, clusters=made.clusters)
        return (*below, WindowLayer(blob=made.blob, place=place, content=made.content, delta=bool(below)))

    def _changed(
        self, new: DiskSource, old: DiskSource, number: int, target: Path, below: Sequence[WindowLayer]
    ) -> Packed | None:  # fmt: skip
        """What differs from the parent's window; None where it is as well to send the window, or it is all zeros."""
        with space.needed(target.parent, "to compress a disk"):
            made = delta.pack(new, old, number, lambda name: _raw(target, name), target)
        if made is None or made.blob.size * 2 < sum(one.blob.size for one in below):
            return made
        whole = target.with_suffix(".whole")
        try:
            full = new.pack(number, _raw(target, "new"), whole)
            return None if full and full.blob.size <= made.blob.size * AS_WELL else made
        finally:
            whole.unlink(missing_ok=True)

    def _bring(self, blob: Blob, path: Path) -> None:
        with self._lock:
            mine = self._of.setdefault(blob.digest, threading.Lock())
        with mine:  # the same content twice: once is enough
            sent = Upload(self.registry, self.home, blob, path, self._went).run(sources=self.sources)
        with self._lock:
            self.sent += blob.size if sent else 0
            self.size += blob.size

    def _small(self, data: bytes) -> Blob:
        blob = Blob(digest=digest_of(data), size=len(data))
        path = self._scratch("config")
        try:
            path.write_bytes(data)
            self._bring(blob, path)
        finally:
            path.unlink(missing_ok=True)
        return blob

    def _scratch(self, name: str) -> Path:
        """A file that lasts for moments; `vmctl box prune` removes those of a killed push."""
        return self.home.downloads / f"{self._token}-{name}"

    def _config(self) -> Config:
        box = self.box
        sizes = (one.virtual_size for one in (*box.images, *box.forms))
        key = base64.b64encode(box.first_login_key() or b"").decode() if box.first_key == OWN else ""
        return Config(
            schema=artifact.SCHEMA, name=box.name, version=box.version, arch=box.arch, user=box.user,
            disks=tuple(
                DiskInfo(virtual_size=source.size, window=source.window, form=form, machine=size if form else 0)
                for source, form, size in zip(self.disks, parents.forms(box), sizes, strict=True)
            ),
            firmware=box.firmware, cloud_init=box.cloud_init, seeding=box.seeding, first_key=box.first_key, key=key,
            password=box.first_login_password() or "", defaults=box.defaults, provenance=_provenance(box),
        )  # fmt: skip

    def _went(self, _size: int) -> None:
        if self._stop.is_set():
            raise interrupt.error()

    def _tell(self, done: int, total: int) -> None:
        self._done += done
        if time.monotonic() - self._reported_at >= REPORT_EVERY or self._done == total:
            self._reported_at = time.monotonic()
            self.report(Progress(step=STEP, done=self._done, total=total, unit="windows"))


def _raw(packed: Path, name: str) -> Path:
    """A file for a window that is being read."""
    return packed.with_suffix(f".{name}")


def _sources(box: Box, home: HomeLayout, target: Reference) -> list[str]:
    """Repositories of the same registry that may have the box's windows already: its own, then other boxes'."""
    known = [
        Reference.parse(address)
        for one in (box, *BoxStore(home).boxes())
        for address in (one.source, *one.provenance.get("stamps", {}))
        if is_oci(address)
    ]
    there = [one.repository for one in known if one.registry == target.registry]
    return [one for one in dict.fromkeys(there) if one != target.repository][:MOST_SOURCES]


def _provenance(box: Box) -> dict[str, Any]:
    """What is known of how the box came to be, without this host's paths."""
    pushed = box.provenance.get(OCI)
    inherited = pushed.get("pushed") if isinstance(pushed, dict) else None
    if isinstance(inherited, dict):
        return inherited
    known = {key: box.provenance[key] for key in PUSHED_KEYS if key in box.provenance}
    public = box.source.startswith((RECIPE, "https://", "http://"))
    return {**known, "source": box.source} if public else known


def _time(box: Box) -> str:
    """When the box came into the store: the same box has the same manifest, whenever it is pushed."""
    added = box.provenance.get("added")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(added if isinstance(added, int | float) else 0))
