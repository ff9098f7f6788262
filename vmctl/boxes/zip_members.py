"""Reading zip archives in constant memory."""

from __future__ import annotations

import io
import lzma
import stat
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from vmctl.boxes import compression
from vmctl.boxes.compression import CHUNK, DamagedStream

if TYPE_CHECKING:
    from vmctl.boxes.archive import Intake

LONGEST_READ = 8 * 1024**2
"""zipfile reads the whole table of contents at once, as long as the file says that it is."""
LONGEST_LINK = 4096
ENCRYPTED = 0x1
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)  # LZMA may ask for gigabytes of memory
FAULTS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError, RuntimeError)


def unpack(source: BinaryIO, intake: Intake) -> None:
    """Give every member of a zip file to ``intake``.

    Raises:
        Damaged: it is not a zip, or it is damaged, encrypted or strangely compressed.
        Refused: a member is unsafe.
    """
    intake.packed = compression.file_size(source)
    try:
        with zipfile.ZipFile(_Bounded(source)) as archive:
            for member in archive.infolist():
                _take(archive, member, intake)
    except FAULTS as error:
        raise DamagedStream(f"the zip archive is damaged: {error}") from error


def _take(archive: zipfile.ZipFile, member: zipfile.ZipInfo, intake: Intake) -> None:
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
