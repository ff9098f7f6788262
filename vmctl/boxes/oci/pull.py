"""A box from a registry into the store."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from vmctl import process
from vmctl.boxes import box_names, image, space
from vmctl.boxes.box import OCI, OWN, OWN_KEY, PARENT, PASSWORD, PUBLISHED, Box, BoxImage, BoxInfo, manifest_of
from vmctl.boxes.box_store import BoxStore, lock_path
from vmctl.boxes.oci import artifact, cosign, parents
from vmctl.boxes.oci.artifact import Config
from vmctl.boxes.oci.assembly import STEP, Assembly
from vmctl.boxes.oci.reference import Reference
from vmctl.boxes.oci.registry_client import Document, Lying, Registry
from vmctl.boxes.oci.transport import Transport
from vmctl.boxes.oci.window_layers import Senseless, layouts
from vmctl.boxes.request import Order
from vmctl.boxes.vagrant_box import DEFAULT_SIZE
from vmctl.driver import CONTAINER
from vmctl.errors import UsageError
from vmctl.events import Report, StepDone, StepStarted, ignore
from vmctl.layout import HomeLayout
from vmctl.store import files, locks

FORMS = (CONTAINER,)
TAR, TAR_AT = b"ustar", 257
"""What each tar archive of today has, and where. Format: POSIX.1-2001, pax."""


class Found:
    """What a reference leads to, for one architecture."""

    def __init__(self, registry: Registry, document: Document, index: Document | None = None) -> None:
        self.registry, self.document = registry, document
        self.digests = (document.digest, *([index.digest] if index else []))
        """By which it is known: of its manifest, and of the index that led there."""

    @property
    def is_box(self) -> bool:
        """Whether vmctl pushed it; else it is a container image."""
        return artifact.is_box(artifact.parsed(self.document.data))


@contextmanager
def opened(order: Order, *, report: Report = ignore) -> Iterator[Found]:
    """What the registry has, and the connection to it.

    Raises:
        UsageError: the address or an option makes no sense, or there is none for this architecture.
        RegistryError, Denied: it cannot be had.
    """
    reference = Reference.parse(order.address)
    arch = box_names.architecture(order.arch) or box_names.host_architecture()
    with Transport(reference, order.access, report=report) as transport:
        with _naming_failures(reference):
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
        hint = f"vmctl box add {reference} --arch {offers[0].arch}" if offers else ""
        raise UsageError(f"{reference} is not for {arch}", details=f"it is for {there}", hint=hint)
    return Found(registry, registry.manifest(chosen.blob.digest), document)


def obtain(order: Order, home: HomeLayout, *, report: Report = ignore) -> tuple[Box, bool]:
    """Have the box of a registry in the store; the box, and whether it was not there before.

    Raises:
        UsageError: the address or an option makes no sense, or the name belongs to another box.
        BadSignature: the key that must have signed it did not; the store is unchanged.
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
    with opened(order, report=store.report) as found:
        digest = found.document.digest
        stamps = {}
        if order.key:
            cosign.verify(found.registry, found.digests, order.key)
            stamps = {cosign.stamp(order.key): digest}
        if box := _there(order, store, digest, stamps):
            return box, False
        # Held beside the lock on the address: another tag of this very box may be pulled at the same time.
        lock = lock_path(store.home, "manifest", digest)
        with _naming_failures(reference), locks.hold(lock, str(reference), report=store.report):
            if found.is_box:
                return Pulling(order, reference, found, store, stamps).run()
            from vmctl.boxes.oci.container_disk import ContainerDisk

            return ContainerDisk(order, reference, found, store, stamps).run()


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
def _naming_failures(reference: Reference) -> Iterator[None]:
    """Turn a document that makes no sense into an error that names its registry."""
    try:
        yield
    except Senseless as error:
        raise Lying(f"{reference} is not a usable box", details=str(error), hint="ask whoever pushed it") from error


def _there(order: Order, store: BoxStore, digest: str, stamps: Mapping[str, str]) -> Box | None:
    """The box in the store that came from this very manifest, and is as the user says."""
    source = str(Reference.parse(order.address))
    for box in store.boxes(order.name or None):
        if (manifest_of(box), box.source) == (digest, source) and _agrees(order, box):
            if order.named:
                box_names.check_reserved(box.name, source)
            return store.annotate(box, stamps=stamps, named=order.named)
    return None


def _agrees(order: Order, box: Box) -> bool:
    """Whether a box of a registry is as the user says; it reads a seed where both the box and the user say so."""
    reads_seed = order.cloud_init and box.provenance[OCI].get("cloud_init") is not False
    return dataclasses.replace(order, cloud_init=reads_seed).agrees(box)


class Pulling:
    """One box on its way into the store."""

    def __init__(
        self, order: Order, reference: Reference, found: Found, store: BoxStore, stamps: Mapping[str, str]
    ) -> None:  # fmt: skip
        self.order, self.reference, self.store, self.stamps = order, reference, store, stamps
        self.registry, self.digest = found.registry, found.document.digest
        self.document = artifact.parsed(found.document.data)
        self.parent = ""
        self.config = self._config()
        self.name = self._name()

    def run(self) -> tuple[Box, bool]:
        """Take it in."""
        manifest = artifact.manifest(self.document)
        known = parents.local(manifest, self.store)
        work = Assembly(
            self.registry, self.store.home, self.store.report, digest=self.digest,
            layouts=layouts(self.config.disks, manifest.layers), stacks=manifest.stacks,
            known=parents.alike(known, [one.form for one in self.config.disks]) if known else (),
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
        disks = [self._placed(path, directory, number) for number, path in enumerate(paths)]
        moved()
        if self.config.first_key == OWN:
            files.write(directory / OWN_KEY, self.config.key_bytes)
        if self._password:
            files.write(directory / PASSWORD, self._password)
        info = self._info(disks)
        return self.store.take_in(directory, info, same=lambda box: self._is(box, info), numbered=False)

    def _config(self) -> Config:
        found = artifact.manifest(self.document)
        self.parent = found.parent
        return artifact.config(self.registry.read(found.config, artifact.LONGEST_CONFIG, "the config"))

    def _placed(self, path: Path, directory: Path, number: int) -> BoxImage:
        """Move a disk into the draft, under its name; another form of the system becomes the file that it was."""
        form = self.config.disks[number].form if number < len(self.config.disks) else ""
        if form:
            first, size = self.config.disks[0], self.config.disks[number].machine
            return _form(path, directory, form, size or (DEFAULT_SIZE if first.form else first.virtual_size))
        found = image.inspect(path, str(self.reference), boots=number == 0)
        disk = BoxImage.of(path, found.format, found.virtual_size)
        path.rename(directory / disk.image_name)
        return disk

    def _name(self) -> str:
        named = self.order.name or (self.config.name if box_names.is_name(self.config.name) else "")
        name = named or box_names.label(self.reference.repository.rpartition("/")[2])
        if self.order.named:
            box_names.check_reserved(name, str(self.reference))
        return box_names.check(name)

    @property
    def _password(self) -> str:
        return self.order.password or self.config.password

    def _info(self, disks: Sequence[BoxImage]) -> BoxInfo:
        config = self.config
        return BoxInfo(
            name=self.name,
            version=config.version,
            arch=config.arch,
            **structs.asdict(disks[0]),
            source=str(self.reference),
            user=self.order.user or config.user,
            firmware=self.order.firmware or config.firmware,
            cloud_init=self.order.cloud_init and config.cloud_init,
            seeding=config.seeding,
            first_key=config.first_key or ("" if self.order.cloud_init and not self._password else PUBLISHED),
            first_password=bool(self._password),
            further=tuple(one for one in disks[1:] if one.format not in FORMS),
            forms=tuple(one for one in disks[1:] if one.format in FORMS),
            defaults=config.defaults,
            provenance=self._provenance(),
            origin=str(self.reference),
            named=self.order.named,
        )

    def _provenance(self) -> dict[str, Any]:
        origin = {} if self.reference.digest else {"origin": str(self.reference)}
        config = self.config
        known = {"manifest": self.digest, "pushed": dict(config.provenance), "cloud_init": config.cloud_init}
        known |= {PARENT: self.parent} if self.parent else {}
        return {"added": time.time(), "stamps": dict(self.stamps), OCI: known, **origin}

    def _is(self, box: Box, info: BoxInfo) -> bool:
        """Whether a box of that name is this one already."""
        return (
            (box.files, box.arch, box.defaults, box.origin) == (info.files, info.arch, info.defaults, info.origin)
            and manifest_of(box) == self.digest
            and _agrees(self.order, box)
        )


def _form(path: Path, directory: Path, form: str, virtual_size: int) -> BoxImage:
    raw = directory / f".{form}"
    with space.needed(directory, "to unpack a root file system"):
        process.run([
            process.find("qemu-img", package="qemu-utils"), "convert", "-f", "qcow2", "-O", "raw", "--",
            path.absolute(), raw,
        ])  # fmt: skip
    with raw.open("rb") as stream:
        if stream.read(TAR_AT + len(TAR))[TAR_AT:] != TAR:
            raise Senseless("its root file system is not a tar archive")
    found = BoxImage.of(raw, form, virtual_size)
    raw.rename(directory / found.image_name)
    files.remove(path)
    return found
