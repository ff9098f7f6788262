"""Reading archives in constant memory: tar (v7, ustar, GNU and pax, sparse ones too) as a stream, and zip."""

from __future__ import annotations

import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from vmctl.boxes import compression
from vmctl.boxes.compression import CHUNK, DamagedStream

if TYPE_CHECKING:
    from vmctl.boxes.archive import Intake

HEADER_BUDGET = 8 * 1024**2
"""What may stand before a member's data: names, pax records, the map of a sparse file. tarfile keeps it in memory."""
KINDS = {tarfile.CHRTYPE: "character device", tarfile.BLKTYPE: "block device", tarfile.FIFOTYPE: "named pipe"}
LONGEST_DIGITS = 64
"""In a row, in a pax header: tarfile searches there in time that is quadratic in them."""
DIGITS = re.compile(rb"[0-9]{%d}" % (LONGEST_DIGITS + 1))
SHORTEST_RECORD = len("5 a=\n")
LONGEST_LENGTH = 9  # digits
TAR_FAULTS = (tarfile.TarError, EOFError, ValueError, OverflowError, IndexError, RecursionError)
"""What tarfile raises on hostile headers, found by fuzzing it."""
LONGEST_READ = 8 * 1024**2
"""zipfile reads the whole table of contents at once, as long as the file says that it is."""
LONGEST_LINK = 4096
ENCRYPTED = 0x1
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)  # LZMA may ask for gigabytes of memory
ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError, RuntimeError)


def unpack_tar(source: BinaryIO, intake: Intake) -> None:
    """Give every member of a tar stream to ``intake``.

    Raises:
        Damaged: it is not a tar, or it ends early.
        Refused: a member is unsafe.
    """
    intake.packed = compression.file_size(source)
    metered = _Metered(source)
    try:
        with tarfile.open(fileobj=metered, mode="r|", bufsize=CHUNK, tarinfo=_Member) as archive:  # type: ignore[call-overload]
            while member := _next(archive, metered):
                _take_from_tar(archive, member, intake)
            _check_end(metered, archive.offset)
    except TAR_FAULTS as error:
        raise DamagedStream(f"the tar archive is damaged: {error}") from error


def headers(source: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The header of every member of a tar stream, which tells where its data is.

    Raises:
        DamagedStream: it is not a tar, it ends early, or a member is sparse.
    """
    metered = _Metered(source)
    try:
        with tarfile.open(fileobj=metered, mode="r|", bufsize=CHUNK, tarinfo=_Member) as archive:  # type: ignore[call-overload]
            while member := _next(archive, metered):
                if member.issparse():
                    raise DamagedStream(f"member {member.name!r} is sparse")
                yield member
                if archive.offset > archive.fileobj.tell():  # past its data, which is no part of the next header
                    archive.fileobj.seek(archive.offset - 1)
            _check_end(metered, archive.offset)
    except TAR_FAULTS as error:
        raise DamagedStream(f"the tar archive is damaged: {error}") from error


def _next(archive: tarfile.TarFile, metered: _Metered) -> tarfile.TarInfo | None:
    archive.members = []  # type: ignore[attr-defined]  # or it would remember every member
    metered.left = HEADER_BUDGET
    try:
        return archive.next()
    finally:
        metered.left = None


def _take_from_tar(archive: tarfile.TarFile, member: tarfile.TarInfo, intake: Intake) -> None:
    if member.isdir():
        intake.directory(member.name)
    elif member.isreg() and (data := archive.extractfile(member)):
        with data:
            _check_map(member)
            intake.file(member.name, member.size, data)  # type: ignore[arg-type]  # only read() is called
    elif member.issym() or member.islnk():
        intake.link(member.name, member.linkname, symbolic=member.issym())
    else:
        intake.other(member.name, KINDS.get(member.type, f"member of type {member.type!r}"))


def _check_map(member: tarfile.TarInfo) -> None:
    """The parts of a sparse member must follow one another: tarfile looks for each in all that are out of order."""
    known: Any = member  # typeshed has another idea of ``sparse``
    parts = [part for part in known.sparse or () if part[1]]
    end = 0
    for offset, size in parts:
        if offset < end or size < 0:
            raise DamagedStream(f"the parts of member {member.name!r} overlap")
        end = offset + size
    if end > member.size and parts:
        raise DamagedStream(f"the parts of member {member.name!r} are longer than it is")
    if member.issparse():
        known.sparse = parts


class _Member(tarfile.TarInfo):
    """A header whose pax records and sparse map are looked at before tarfile reads them.

    It trusts their lengths and searches them with regular expressions: a few MiB keep it busy for hours
    (CVE-2024-6232 is one way). These two methods are tarfile's own, in all versions of Python that there are.
    """

    def _proc_pax(self, archive: Any) -> tarfile.TarInfo:
        stream = archive.fileobj
        data = stream.read(self._block(self.size))  # type: ignore[attr-defined]
        _check_pax(data[: self.size])
        archive.fileobj = _Again(stream, data)
        try:
            return super()._proc_pax(archive)  # type: ignore[misc,no-any-return]
        finally:
            archive.fileobj = stream

    def _proc_gnusparse_10(self, member: Self, headers: Any, archive: Any) -> None:
        stream = archive.fileobj
        archive.fileobj = _LineReader(stream)
        try:
            super()._proc_gnusparse_10(member, headers, archive)  # type: ignore[misc]
        finally:
            archive.fileobj = stream


def _check_pax(data: bytes) -> None:
    """See that it is records, LENGTH KEY=VALUE and a newline, one after another (POSIX.1-2017, pax header block)."""
    if DIGITS.search(data):
        raise DamagedStream("a pax header has a number of too many digits")
    place = 0
    while place < len(data):
        length, blank, _ = data[place : place + LONGEST_LENGTH + 1].partition(b" ")
        end = place + int(length) if blank and length.isdigit() else 0
        record = data[place:end]
        if not SHORTEST_RECORD <= len(record) == end - place or record[-1:] != b"\n" or b"=" not in record:
            raise DamagedStream("a pax header is damaged")
        place = end


class _Wrapped:
    """What tarfile needs of a stream, on another one."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def tell(self) -> int:
        return int(self._stream.tell())

    def read(self, size: int) -> bytes:
        return bytes(self._stream.read(size))


class _Again(_Wrapped):
    """A stream with what was read of it first."""

    def __init__(self, stream: Any, data: bytes) -> None:
        super().__init__(stream)
        self._data = data

    def read(self, size: int) -> bytes:
        data, self._data = self._data, b""
        return data or super().read(size)


class _LineReader(_Wrapped):
    """A stream of lines shorter than a block; tarfile would collect a longer one, looking at all of it each time."""

    def read(self, size: int) -> bytes:
        data = super().read(size)
        if b"\n" not in data:
            raise DamagedStream("the map of a sparse member is damaged")
        return data


def _check_end(metered: _Metered, end: int) -> None:
    """Read to the end, for a compressed stream has its checksum there; the mark behind the last member must be there.

    Without this, an archive cut between two members would pass for a whole one.
    """
    metered.left = HEADER_BUDGET
    while metered.read(CHUNK):
        pass
    if metered.total < end + tarfile.BLOCKSIZE:
        raise DamagedStream("the tar archive ends early")


class _Metered:
    """A stream that gives out no more than ``left`` bytes (None = no limit)."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.left: int | None = HEADER_BUDGET
        self.total = 0

    def read(self, size: int = -1) -> bytes:
        if self.left is not None and self.left <= 0:
            raise DamagedStream(f"a member's header is longer than {HEADER_BUDGET} bytes")
        data = self._source.read(size)
        self.total += len(data)
        if self.left is not None:
            self.left -= len(data)
        return data


def unpack_zip(source: BinaryIO, intake: Intake) -> None:
    """Give every member of a zip file to ``intake``.

    Raises:
        Damaged: it is not a zip, or it is damaged, encrypted or strangely compressed.
        Refused: a member is unsafe.
    """
    intake.packed = compression.file_size(source)
    try:
        with zipfile.ZipFile(_Bounded(source)) as archive:
            for member in archive.infolist():
                _take_from_zip(archive, member, intake)
    except ZIP_FAULTS as error:
        raise DamagedStream(f"the zip archive is damaged: {error}") from error


def _take_from_zip(archive: zipfile.ZipFile, member: zipfile.ZipInfo, intake: Intake) -> None:
    mode = member.external_attr >> 16
    if member.flag_bits & ENCRYPTED or member.compress_type not in METHODS:
        raise DamagedStream(f"member {member.filename!r} is encrypted or compressed in an unusual way")
    if not member.filename:
        raise DamagedStream("a member has no name")
    if member.is_dir():
        intake.directory(member.filename)
    elif stat.S_ISLNK(mode):
        with archive.open(member) as data:
            target = data.read(LONGEST_LINK).decode("utf-8", "surrogateescape")
        intake.link(member.filename, target, symbolic=True)
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        intake.other(member.filename, "special file")
    else:
        with archive.open(member) as data:
            intake.file(member.filename, member.file_size, io.BufferedReader(data, CHUNK))  # type: ignore[type-var]


class _Bounded:
    """A seekable file that refuses to be read in pieces that memory may not hold."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        if size > LONGEST_READ:
            raise DamagedStream(f"its table of contents is longer than {LONGEST_READ} bytes")
        return self._source.read(LONGEST_READ if size < 0 else size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)
