"""A box from a registry into the store."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmctl import process
from vmctl.boxes import box_names, image, reserved, space
from vmctl.boxes.box import OWN, OWN_KEY, PASSWORD, PUBLISHED, Box, BoxInfo, FurtherDisk
from vmctl.boxes.box_store import BoxStore, lock_path
from vmctl.boxes.oci import artifact
from vmctl.boxes.oci.artifact import Config, Senseless
from vmctl.boxes.oci.assembly import STEP, Assembly
from vmctl.boxes.oci.reference import Reference
from vmctl.boxes.oci.registry import Document, Lying, Registry
from vmctl.boxes.oci.transport import Transport
from vmctl.boxes.request import Order
from vmctl.driver import CONTAINER
from vmctl.errors import UsageError
from vmctl.events import Report, StepDone, StepStarted, ignore
from vmctl.layout import HomeLayout
from vmctl.store import files, locks

FORMS = (CONTAINER,)
TAR, TAR_AT = b"ustar", 257
"""What each tar archive of today has, and where. Format: POSIX.1-2001, pax."""
OCI = "oci"
"""Key of a box's provenance: {"manifest": DIGEST, "pushed": what who pushed it knew, "cloud_init": what they said}."""


class Found:
    """What a reference leads to, for one architecture."""

    def __init__(self, registry: Registry, document: Document) -> None:
        self.registry, self.document = registry, document

    @property
    def is_box(self) -> bool:
        """Whether vmctl pushed it; else it is a container image."""
        return artifact.is_box(artifact.parsed(self.document.data))


@contextmanager
def looked_up(order: Order, *, report: Report = ignore) -> Iterator[Found]:
    """What the registry has, and the connection to it.

    Raises:
        UsageError: the address or an option makes no sense, or there is none for this architecture.
        RegistryError, Denied: it cannot be had.
    """
    reference = Reference.parse(order.address)
    arch = box_names.architecture(order.arch) or box_names.host_architecture()
    with Transport(reference, order.access, report=report) as transport:
        with _told(reference):
            found = _found(Registry(transport), reference, arch)
        yield found


def _found(registry: Registry, reference: Reference, arch: str) -> Found:
    document = registry.manifest(reference.target)
    parsed = artifact.parsed(document.data)
    if not artifact.is_index(parsed, document.kind):
        return Found(registry, document)
    offers = artifact.entries(parsed)
    chosen = next((one for one in offers if one.arch == arch), None)
    if chosen is None:
        there = ", ".join(one.arch for one in offers) or "no Linux architecture"
        raise UsageError(f"{reference} is not for {arch}", details=f"it is for {there}", hint="choose with --arch")
    return Found(registry, registry.manifest(chosen.blob.digest))


def obtain(order: Order, home: HomeLayout, *, report: Report = ignore) -> tuple[Box, bool]:
    """Have the box of a registry in the store; the box, and whether it was not there before.

    Raises:
        UsageError: the address or an option makes no sense, or the name belongs to another box.
        RegistryError, Denied: it cannot be had; what came is kept for the next time.
        Lying: the registry sent something else than it announced; the store is unchanged.
        NoSpace: the disk is full.
        Interrupted: the user asked to stop; the pull can go on later.
    """
    reference = Reference.parse(order.address)
    _check(order, reference)
    store = BoxStore(home, report)
    started = time.monotonic()
    report(StepStarted(step=STEP, text=f"pulling box {reference}"))
    with locks.hold(lock_path(home, "source", str(reference)), str(reference), report=report):
        box, new = _obtained(order, reference, store)
    report(StepDone(step=STEP, seconds=time.monotonic() - started, changed=new, text=str(box)))
    return box, new


def _obtained(order: Order, reference: Reference, store: BoxStore) -> tuple[Box, bool]:
    with looked_up(order, report=store.report) as found:
        digest = found.document.digest
        if box := _there(order, store, digest):
            return box, False
        lock = lock_path(store.home, "manifest", digest)
        with _told(reference), locks.hold(lock, str(reference), report=store.report):
            if found.is_box:
                return Pulling(order, reference, found, store).run()
            from vmctl.boxes.oci.container_disk import ContainerDisk

            return ContainerDisk(order, reference, found, store).run()


def _check(order: Order, reference: Reference) -> None:
    """Refuse options that mean nothing to a registry."""
    where = f"oci://{reference.registry}/{reference.repository}"
    if order.version:
        raise UsageError(
            f"{reference} has no versions to choose from, but tags",
            details="A tag or a digest in the address says which box is meant.", hint=f"vmctl box add {where}:TAG",
        )  # fmt: skip
    if order.checksum or order.provider:
        raise UsageError(
            f"{reference} has neither checksums nor providers to choose from",
            details="A digest in the address says which very image is meant.",
            hint=f"vmctl box add {where}@sha256:DIGEST",
        )


@contextmanager
def _told(reference: Reference) -> Iterator[None]:
    """Turn a document that makes no sense into an error that names its registry."""
    try:
        yield
    except Senseless as error:
        raise Lying(f"{reference} is not a usable box", details=str(error), hint="ask who pushed it") from error


def _there(order: Order, store: BoxStore, digest: str) -> Box | None:
    """The box in the store that came from this very manifest, and is as the user says."""
    source = str(Reference.parse(order.address))
    for box in store.boxes(order.name or None):
        if (manifest_of(box), box.source) == (digest, source) and _agrees(order, box):
            if order.named:
                reserved.check(box.name, source)
            return store.annotate(box, stamps={}, named=order.named)
    return None


def _agrees(order: Order, box: Box) -> bool:
    """Whether a box of a registry is as the user says; it reads a seed where both the box and the user say so."""
    reads_seed = order.cloud_init and box.provenance[OCI].get("cloud_init") is not False
    return dataclasses.replace(order, cloud_init=reads_seed).agrees(box)


def manifest_of(box: BoxInfo) -> str:
    """The digest of the manifest that a box was pulled by; "" = it came otherwise."""
    known = box.provenance.get(OCI)
    return str(known.get("manifest", "")) if isinstance(known, dict) else ""


class Pulling:
    """One box on its way into the store."""

    def __init__(self, order: Order, reference: Reference, found: Found, store: BoxStore) -> None:
        self.order, self.reference, self.store = order, reference, store
        self.registry, self.digest = found.registry, found.document.digest
        self.document = artifact.parsed(found.document.data)
        self.config = self._config()
        self.name = self._name()

    def run(self) -> tuple[Box, bool]:
        """Take it in."""
        manifest = artifact.manifest(self.document)
        work = Assembly(
            self.registry, self.store.home, self.store.report, digest=self.digest,
            layouts=artifact.layouts(self.config, manifest), layers=manifest.layers,
        )  # fmt: skip
        paths = work.run()
        with self.draft() as draft:
            return self.take_in(draft, paths, moved=work.forget)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A place in the store to make the box in."""
        with self.store.draft() as draft, space.needed(draft, f"to pull {self.reference}"):
            yield draft

    def take_in(self, draft: Path, paths: Sequence[Path], *, moved: Callable[[], None]) -> tuple[Box, bool]:
        """Make the box of its disks; ``moved`` is called when they are where they belong."""
        directory = draft / "box"
        directory.mkdir(mode=0o755)
        disks = [self._settled(path, directory, number) for number, path in enumerate(paths)]
        moved()
        if self.config.first_key == OWN:
            files.write(directory / OWN_KEY, self.config.key_bytes)
        if self._password:
            files.write(directory / PASSWORD, self._password)
        info = self._info(disks)
        return self.store.take_in(directory, info, same=lambda box: self._is(box, info), numbered=False)

    def _config(self) -> Config:
        blob = artifact.manifest(self.document).config
        return artifact.config(self.registry.read(blob, artifact.LONGEST_CONFIG, "the config"))

    def _settled(self, path: Path, directory: Path, number: int) -> FurtherDisk:
        """Move a disk into the draft, under its name; another form of the system becomes the file that it was."""
        form = self.config.disks[number].form if number < len(self.config.disks) else ""
        if form:
            return _form(path, directory, form, self.config.disks[0].virtual_size)
        look = image.inspect if number == 0 else image.inspect_data
        found = look(path, str(self.reference))
        digest = _digest(path)
        disk = FurtherDisk(
            digest=digest, format=found.format, virtual_size=found.virtual_size, size=path.stat().st_size
        )  # fmt: skip
        path.rename(directory / disk.image_name)
        return disk

    def _name(self) -> str:
        named = self.order.name or (self.config.name if box_names.is_name(self.config.name) else "")
        name = named or box_names.label(self.reference.repository.rpartition("/")[2])
        if self.order.named:
            reserved.check(name, str(self.reference))
        return box_names.check(name)

    @property
    def _password(self) -> str:
        return self.order.password or self.config.password

    def _info(self, disks: Sequence[FurtherDisk]) -> BoxInfo:
        said, first = self.config, disks[0]
        return BoxInfo(
            name=self.name,
            version=said.version,
            arch=said.arch,
            digest=first.digest,
            format=first.format,
            virtual_size=first.virtual_size,
            size=first.size,
            source=str(self.reference),
            user=self.order.user or said.user,
            firmware=self.order.firmware or said.firmware,
            cloud_init=self.order.cloud_init and said.cloud_init,
            seeding=said.seeding,
            first_key=said.first_key or ("" if self.order.cloud_init and not self._password else PUBLISHED),
            first_password=bool(self._password),
            further=tuple(one for one in disks[1:] if one.format not in FORMS),
            forms=tuple(one for one in disks[1:] if one.format in FORMS),
            defaults=said.defaults,
            provenance=self._provenance(),
            origin=str(self.reference),
            named=self.order.named,
        )

    def _provenance(self) -> dict[str, Any]:
        origin = {} if self.reference.digest else {"origin": str(self.reference)}
        said = self.config
        known = {"manifest": self.digest, "pushed": dict(said.provenance), "cloud_init": said.cloud_init}
        return {"added": time.time(), OCI: known, **origin}

    def _is(self, box: Box, info: BoxInfo) -> bool:
        """Whether a box of that name is this one already."""
        return (
            (box.files, box.arch, box.defaults, box.origin) == (info.files, info.arch, info.defaults, info.origin)
            and manifest_of(box) == self.digest
            and _agrees(self.order, box)
        )


def _form(path: Path, directory: Path, form: str, virtual_size: int) -> FurtherDisk:
    raw = directory / f".{form}"
    with space.needed(directory, "to unpack a root file system"):
        process.run([
            process.find("qemu-img", package="qemu-utils"), "convert", "-f", "qcow2", "-O", "raw", "--",
            path.absolute(), raw,
        ])  # fmt: skip
    with raw.open("rb") as stream:
        if stream.read(TAR_AT + len(TAR))[TAR_AT:] != TAR:
            raise Senseless("its root file system is not a tar archive")
    digest, size = _digest(raw), raw.stat().st_size
    found = FurtherDisk(digest=digest, format=form, virtual_size=virtual_size, size=size)
    raw.rename(directory / found.image_name)
    files.remove(path)
    return found


def _digest(path: Path) -> str:
    from vmctl.boxes import contents

    return contents.digest(path)
