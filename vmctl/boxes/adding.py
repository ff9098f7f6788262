"""Taking a box or disk image into the store, from a path or a URL: checked, hashed and unpacked on the way."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from vmctl.box_facts import DEFAULT_USER
from vmctl.boxes import archive, box_names, built_images, compression, contents, image, space, streams
from vmctl.boxes.address import plain_source, stamp
from vmctl.boxes.box import OWN, OWN_KEY, PASSWORD, PUBLISHED, Box, BoxImage, BoxInfo
from vmctl.boxes.box_store import BoxStore, lock_path
from vmctl.boxes.checksum import Hashing, digest_of
from vmctl.boxes.contents import Declared
from vmctl.boxes.download import Patience, fetch
from vmctl.boxes.request import Request
from vmctl.boxes.streams import Meter, hashed
from vmctl.boxes.vagrant_box import DEFAULT_USER as VAGRANT_USER
from vmctl.driver import CONTAINER
from vmctl.errors import VmctlError, in_words, shell_command
from vmctl.events import Report, StepDone, StepStarted, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.store import files, locks
from vmctl.units import readable

STEP = "add_box"
UNNUMBERED = "0.%Y%m%d.%H%M%S"  # below any version that a person gives


def add(
    request: Request, home: HomeLayout, *, report: Report = ignore, patience: Patience | None = None
) -> tuple[Box, bool]:
    """Take a box or an image into the store; the box, and whether it was not there before.

    Raises:
        UsageError: the request makes no sense, or there is such a version with different content.
        BadArchive, BadBox, NotAnImage, ChecksumMismatch, DownloadFailed, NoSpace: the store is unchanged.
        Interrupted: the user asked to stop; a download can go on later.
    """
    request.check()
    store = BoxStore(home, report)
    source = plain_source(request.address)
    started, before = time.monotonic(), _added(store.from_source(source))
    report(StepStarted(step=STEP, text=f"adding box from {source}"))
    with _naming_failures(source, home), locks.hold(lock_path(home, "source", source), source, report=report):
        adding = _Adding(request, store, source, patience)
        box, new = (there, False) if (there := adding.already(before)) else adding.run()
    report(StepDone(step=STEP, seconds=time.monotonic() - started, changed=new, text=str(box)))
    return box, new


@contextmanager
def _naming_failures(source: str, home: HomeLayout) -> Iterator[None]:
    """Turn what the operating system refuses into an error that names the box."""
    try:
        yield
    except OSError as error:
        ours = error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(home.root)
        what = "the store of boxes cannot be written" if ours else "a file cannot be read"
        raise VmctlError(
            f"{source} was not added: {what}",
            details=in_words(error),
            hint=shell_command("ls", "-ld", home.boxes if ours else source),
        ) from error


@dataclass
class _Adding:
    """One image on its way into the store."""

    request: Request
    store: BoxStore
    source: str
    patience: Patience | None
    stamps: dict[str, str] = field(init=False)
    declared: Declared = field(default_factory=Declared)

    def __post_init__(self) -> None:
        self.stamps = dict(self.request.stamps)

    def already(self, before: float | None) -> Box | None:
        """The box, where nothing is to be done: an unchanged file, or a URL that another process just fetched.

        ``before`` is what ``_added`` said before the lock was waited for: clocks are set back, so it is compared only.
        """
        if "://" in self.source:
            box = self.store.from_source(self.source)
            box = box if _added(box) != before else None
        else:
            box = self.store.from_file(self.source, stamp(Path(self.source)))
        if box is None or self.request.checksum is not None or not self.request.agrees(box):
            return None
        wanted = (
            self.request.name,
            self.request.version,
            box_names.architecture(self.request.arch),
            self.request.origin,
        )
        known = (box.name, box.version, box.arch, box.origin)
        if not all(one in ("", other) for one, other in zip(wanted, known, strict=True)):
            return None
        if self.request.named and not box.named and box.provenance.get("origin", "") != self.request.origin:
            return None  # its label is a catalogue's word, which nobody asked for
        return self.store.annotate(box, stamps=self.stamps, named=self.request.named)

    def run(self) -> tuple[Box, bool]:
        """Take it in."""
        if "://" in self.source:
            return self._from_url()
        path = Path(self.source)
        return self._from_directory(path) if path.is_dir() else self._from_file(path)

    def _from_directory(self, path: Path) -> tuple[Box, bool]:
        """Take in what Vagrant unpacked."""
        with self._draft() as draft:
            self.stamps[str(path)] = stamp(path)
            room = space.Room(draft, f"to add {self.source}")
            self.declared = contents.copy(path, draft, name=self.source, report=self.store.report, room=room)
            return self._publish(draft, digest_of(draft / "image"))

    def _from_file(self, path: Path) -> tuple[Box, bool]:
        with self._draft() as draft, path.open("rb") as stream:
            before = stamp(stream)
            packed = archive.is_archive(stream)
            digest = self._unpack_verified(stream, draft) if packed else self._take(stream, draft)
            if not before == stamp(stream) == stamp(path):
                raise VmctlError(f"{path} changed while it was read", hint=shell_command("vmctl", "box", "add", path))
            self.stamps[str(path)] = before
            return self._publish(draft, digest)

    def _take(self, stream: BinaryIO, draft: Path) -> str:
        """Copy an image into the draft, decompressed; its digest."""
        hashing, digest = self._copy(stream, draft / "image")
        hashing.verify(self.source)
        return contents.converted(draft, self.source, digest)

    def _unpack_verified(self, stream: BinaryIO, draft: Path) -> str:
        """Unpack a local archive. What must match a checksum is hashed on its way into a file that nobody changes."""
        if self.request.checksum is None:
            return self._unpack(stream, draft)
        hashing = Hashing(self.request.checksum)
        meter = Meter(stream, hashing, self.store.report, step=STEP)
        with tempfile.TemporaryFile(dir=draft) as own:
            streams.copy(meter.read, own)
            hashing.verify(self.source)
            own.seek(0)
            return self._unpack(own, draft)

    def _unpack(self, stream: BinaryIO, draft: Path) -> str:
        """Unpack an archive into the draft; the digest of the image in it."""
        self.declared = contents.unpack(stream, draft, name=self.source, report=self.store.report)
        return digest_of(draft / "image")

    def _from_url(self) -> tuple[Box, bool]:
        part, hashing = fetch(
            self.request.address,
            self.store.home,
            checksum=self.request.checksum,
            access=self.request.access,
            patience=self.patience,
            report=self.store.report,
        )
        if self.request.checksum is None:
            text = f"nothing says what {self.source} must hash to; it was not verified"
            self.store.report(Warned(text=text, hint=f"vmctl box add URL --checksum sha256:{hashing.sha256}"))
        try:
            with self._draft() as draft:
                digest = self._take_part(part, draft, hashing)
                return self._publish(draft, digest)
        finally:
            part.unlink(missing_ok=True)

    def _take_part(self, part: Path, draft: Path, hashing: Hashing) -> str:
        """Move a download into the draft, or unpack it there; the digest of the image."""
        with part.open("rb") as stream:
            if archive.is_archive(stream):
                return self._unpack(stream, draft)
            if compression.sniff(stream.read(compression.SNIFFED)) is None:
                part.rename(draft / "image")
                return contents.converted(draft, self.source, hashing.sha256)
            stream.seek(0)
            return contents.converted(draft, self.source, self._copy(stream, draft / "image")[1])

    def _copy(self, stream: BinaryIO, target: Path) -> tuple[Hashing, str]:
        """Copy (decompressing) into ``target``, zeros as holes; the hashes of what was read, the digest of the copy."""
        outer, inner = Hashing(self.request.checksum), Hashing()
        meter = Meter(stream, outer, self.store.report, step=STEP)
        room = space.Room(target.parent, f"to add {self.source}")
        most = streams.bound(os.fstat(stream.fileno()).st_size)
        packed = compression.sniff(meter.peek())
        with target.open("wb") as out:
            try:
                if packed is None:
                    streams.copy(meter.read, out, room=room)
                    return outer, outer.sha256
                data = compression.opened(meter, packed)  # type: ignore[arg-type]  # only read() is called
                streams.copy(hashed(data, inner), out, limit=most, room=room)
            except compression.DamagedStream as error:
                raise image.NotAnImage(self.source, f"It is damaged: {error}.") from error
            except streams.TooLong:
                raise image.NotAnImage(self.source, f"It unpacks to more than {readable(most)}.") from None
        meter.drain()
        return outer, inner.sha256

    @contextmanager
    def _draft(self) -> Iterator[Path]:
        with self.store.draft() as draft, space.needed(draft, f"to add {self.source}"):
            yield draft

    def _publish(self, draft: Path, digest: str) -> tuple[Box, bool]:
        found, said = self._inspected(draft / "image"), self.request.over(self.declared)
        info = BoxInfo(
            name=said.name or box_names.of_address(self.source),
            version=self.request.version or time.strftime(UNNUMBERED, time.gmtime()),
            arch=box_names.architecture(said.arch) or box_names.host_architecture(),
            digest=digest,
            format=found.format,
            virtual_size=found.virtual_size,
            size=(draft / "image").stat().st_size,
            source=self.source,
            user=said.user or self._default_user(),
            firmware=said.firmware or "bios",
            cloud_init=self.request.cloud_init,
            seeding=self.declared.seeding,
            first_key=self.declared.first_key or ("" if self.request.cloud_init and not said.password else PUBLISHED),
            first_password=bool(said.password),
            further=tuple(_further(path, self.source) for path in self.declared.further),
            defaults=self.declared.defaults,
            provenance=self._provenance(),
            origin=self.request.origin or ("" if self.request.name and self.request.named else self.source),
            named=self.request.named,
        )
        # A version of a label is nobody's word either.
        numbered = bool(self.request.version) and (self.request.named or bool(self.request.origin))
        return self.store.take_in(
            self._arranged(draft, info), info, same=lambda box: self._is(box, info), numbered=numbered
        )

    def _inspected(self, path: Path) -> image.Image:
        if not self.declared.container:
            return image.inspect(path, self.source)
        built_images.check_container(path, self.source)
        return image.Image(CONTAINER, self.declared.container)

    def _arranged(self, draft: Path, info: BoxInfo) -> Path:
        """A directory in the draft with all that makes the box, under its names."""
        directory = draft / "box"
        directory.mkdir(mode=0o755)
        for path, one in zip((draft / "image", *self.declared.further), info.images, strict=True):
            path.rename(directory / one.image_name)
        if info.first_key == OWN:
            (draft / OWN_KEY).rename(directory / OWN_KEY)
        if info.first_password:
            files.write(directory / PASSWORD, self.request.over(self.declared).password)
        return directory

    def _default_user(self) -> str:
        return DEFAULT_USER if self.request.cloud_init else VAGRANT_USER

    def _is(self, box: Box, info: BoxInfo) -> bool:
        """Whether a box of that name has the same disks (and version, where one is asked for), and is what is said.

        Files and URLs that hold the same are one box; what catalogues offer is one only with its own catalogue's.
        """
        origin = self.request.origin
        return (
            (box.images, box.arch, box.defaults) == (info.images, info.arch, info.defaults)
            and self.request.version in ("", box.version)
            and self.request.agrees(box)
            and (box.origin == origin if origin else not box.provenance.get("origin"))
        )

    def _provenance(self) -> dict[str, Any]:
        known: dict[str, Any] = {"added": time.time(), "stamps": self.stamps, **self.declared.provenance}
        known |= {"origin": self.request.origin} if self.request.origin else {}
        return known | ({"checksum": str(self.request.checksum)} if self.request.checksum else {})


def _added(box: Box | None) -> float | None:
    return box.provenance.get("added") if box else None


def _further(path: Path, name: str) -> BoxImage:
    found = image.inspect(path, name, boots=False)
    return BoxImage.of(path, found.format, found.virtual_size)
