"""A box of the store into a registry: windows that are not there yet, then config, manifest and index.

The tag changes last, so that whoever pulls meanwhile gets the old box or the new one, whole. A push that was ended goes
on where it was: what the registry has is asked for first.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from vmctl import interrupt
from vmctl.boxes.box import OWN, RECIPE, Box
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.oci import artifact
from vmctl.boxes.oci.artifact import Config, DiskInfo, Entry, Layer, Place, Senseless
from vmctl.boxes.oci.pull import OCI
from vmctl.boxes.oci.reference import LATEST, TAG, Reference, is_oci
from vmctl.boxes.oci.registry import INDEX, MANIFEST, Blob, Registry, digest_of
from vmctl.boxes.oci.transport import Absent, RegistryError, Transport
from vmctl.boxes.oci.upload import Upload
from vmctl.boxes.oci.windows import Source
from vmctl.boxes.web import Access
from vmctl.errors import UsageError, WrongState
from vmctl.events import Progress, Report, StepDone, StepStarted, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.store import files

STEP = "push_box"
WORKERS = 3
"""Windows at once: one of them is compressed while others are sent."""
REPORT_EVERY = 0.2
TAG_TRIES = 5
MOST_SOURCES = 3
TOLD = ("seeding", "recipe", "packages", "checksum")
"""What of a box's provenance goes along: nothing about this host."""


class Pushed(Struct, frozen=True, kw_only=True):
    """What a push brought."""

    reference: Reference
    """By digest: the manifest of this architecture."""
    tags: tuple[str, ...]
    sent: int
    """Bytes of blobs that had to be sent."""
    size: int
    """Bytes of all blobs."""


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
    tags = (reference.tag,) if reference.tag else tuple(dict.fromkeys((_tag(box.version), LATEST)))
    started = time.monotonic()
    report(StepStarted(step=STEP, text=f"pushing {box} to {reference}"))
    if box.first_key == OWN or box.first_password:
        text = f"{box} brings the key or password of its first login along: whoever may pull it can read that"
        report(Warned(text=text))
    with Transport(reference, access, report=report) as transport:
        registry = Registry(transport)
        for tag in tags:
            _entries(registry, tag)  # refuses what is not a box, before anything is sent
        pushing = _Pushing(box, registry, home, report)
        manifest = pushing.run()
        for tag in tags:
            _publish(registry, tag, Entry(blob=manifest, arch=box.arch, kind=MANIFEST))
    done = Pushed(reference=reference.pinned(manifest.digest), tags=tags, sent=pushing.sent, size=pushing.size)
    BoxStore(home).annotate(box, stamps={str(reference.tagged(tags[0])): manifest.digest})
    report(StepDone(step=STEP, seconds=time.monotonic() - started, changed=done.sent > 0, text=str(done.reference)))
    return done


def _tag(version: str) -> str:
    if not TAG.fullmatch(version):
        raise UsageError(f"the version {version} is not a tag", hint="write oci://REGISTRY/REPOSITORY:TAG")
    return version


class _Pushing:
    """One box on its way into a repository."""

    def __init__(self, box: Box, registry: Registry, home: HomeLayout, report: Report) -> None:
        self.box, self.registry, self.home, self.report = box, registry, home, report
        travelling = (*box.images, *(structs.replace(one, virtual_size=one.size) for one in box.forms))
        self.disks = [Source(box.directory / one.image_name, one) for one in travelling]
        if len(self.disks) > artifact.MOST_DISKS:
            raise WrongState(f"{box} has {len(self.disks)} disks; {artifact.MOST_DISKS} are the most that travel")
        self.sources = tuple(_sources(box, home, registry.transport.reference))
        self.sent = self.size = 0
        self._lock = threading.Lock()
        self._of: dict[str, threading.Lock] = {}
        self._stop = threading.Event()
        self._token = f"push-{secrets.token_hex(8)}"
        self._told = 0.0
        self._done = 0

    def run(self) -> Blob:
        """Bring all but the tag; the manifest."""
        files.make_directory(self.home.downloads)
        layers = self._windows()
        config = self._config()
        blob = self._small(artifact.config_bytes(config))
        manifest = artifact.manifest_bytes(config, blob, layers, created=_time(self.box))
        self.registry.put_manifest(digest_of(manifest), manifest, MANIFEST)
        return Blob(digest=digest_of(manifest), size=len(manifest))

    def _windows(self) -> list[Layer]:
        places = [(disk, number) for disk, source in enumerate(self.disks) for number in source.numbers]
        found: list[Layer] = []
        with ThreadPoolExecutor(WORKERS) as pool:
            futures: set[Future[Layer | None]] = {pool.submit(self._window, *place) for place in places}
            try:
                while futures:
                    done, futures = wait(futures, timeout=0.1, return_when=FIRST_COMPLETED)
                    interrupt.check()
                    results = [one.result() for one in done]
                    found += [layer for layer in results if layer]
                    self._tell(len(results), len(places))
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if not found:
            raise WrongState(f"{self.box} is all zeros")
        return sorted(found, key=lambda layer: (layer.place.disk, layer.place.window))

    def _window(self, disk: int, number: int) -> Layer | None:
        if self._stop.is_set():
            return None
        raw, packed = (self._scratch(f"{disk}-{number}{suffix}") for suffix in (".raw", ".zst"))
        made = self.disks[disk].pack(number, raw, packed)
        try:
            if made is None:
                return None
            blob = Blob(digest=made.digest, size=made.size)
            self._bring(blob, packed)
        finally:
            packed.unlink(missing_ok=True)
        return Layer(blob=blob, place=Place(disk=disk, window=number, clusters=made.clusters))

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
        forms = [""] * len(box.images) + [one.format for one in box.forms]
        key = base64.b64encode(box.first_login_key() or b"").decode() if box.first_key == OWN else ""
        return Config(
            schema=artifact.SCHEMA, name=box.name, version=box.version, arch=box.arch, user=box.user,
            disks=tuple(
                DiskInfo(virtual_size=source.size, window=source.window, form=form)
                for source, form in zip(self.disks, forms, strict=True)
            ),
            firmware=box.firmware, cloud_init=box.cloud_init, seeding=box.seeding, first_key=box.first_key, key=key,
            password=box.first_login_password() or "", defaults=box.defaults, provenance=_provenance(box),
        )  # fmt: skip

    def _went(self, _size: int) -> None:
        if self._stop.is_set():
            raise interrupt.error()

    def _tell(self, done: int, total: int) -> None:
        self._done += done
        if time.monotonic() - self._told >= REPORT_EVERY or self._done == total:
            self._told = time.monotonic()
            self.report(Progress(step=STEP, done=self._done, total=total, unit="windows"))


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
    known = {key: box.provenance[key] for key in TOLD if key in box.provenance}
    public = box.source.startswith((RECIPE, "https://", "http://"))
    return {**known, "source": box.source} if public else known


def _time(box: Box) -> str:
    """When the box came into the store: the same box has the same manifest, whenever it is pushed."""
    added = box.provenance.get("added")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(added if isinstance(added, int | float) else 0))


def _entries(registry: Registry, tag: str) -> tuple[Entry, ...]:
    """The architectures that a tag has by now.

    Raises:
        UsageError: it leads to something that is not a box.
    """
    try:
        document = registry.manifest(tag)
    except Absent:
        return ()
    try:
        parsed = artifact.parsed(document.data)
        if artifact.is_box(parsed):
            return artifact.entries(parsed) if artifact.is_index(parsed, document.kind) else ()
    except Senseless:
        pass
    raise UsageError(
        f"the tag {tag} of {registry.transport.reference.repository} is not a box, and is not replaced",
        hint="push to another tag or repository",
    )


def _publish(registry: Registry, tag: str, mine: Entry) -> None:
    """Let the tag lead to the box, beside the other architectures' that it has; somebody may do the same right now."""
    for _ in range(TAG_TRIES):
        others = [one for one in _entries(registry, tag) if one.arch != mine.arch]
        registry.put_manifest(tag, artifact.index_bytes([*others, mine]), INDEX)
        there = _entries(registry, tag)
        kept = {one.arch for one in others} <= {one.arch for one in there}
        if kept and any(one.arch == mine.arch for one in there):
            return
    raise RegistryError(
        f"the tag {tag} is changed by somebody else all the time", hint="push again when they are through"
    )
