"""Reading tar archives (v7, ustar, GNU and pax, sparse ones too) as a stream, in constant memory."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, BinaryIO

from vmctl.boxes.compression import CHUNK, Damaged

if TYPE_CHECKING:
    from vmctl.boxes.archive import Intake

HEADER_BUDGET = 8 * 1024**2
"""What may stand before a member's data: names, pax records, the map of a sparse file. tarfile keeps it in memory."""
KINDS = {tarfile.CHRTYPE: "character device", tarfile.BLKTYPE: "block device", tarfile.FIFOTYPE: "named pipe"}
FAULTS = (tarfile.TarError, EOFError, ValueError, OverflowError, IndexError, RecursionError)
"""What tarfile raises on hostile headers, found by fuzzing it."""


def unpack(source: BinaryIO, intake: Intake) -> None:
    """Give every member of a tar stream to ``intake``.

    Raises:
        Damaged: it is no tar, or it ends early.
        Refused: a member is unsafe.
    """
    metered = _Metered(source)
    try:
        with tarfile.open(fileobj=metered, mode="r|", bufsize=CHUNK) as archive:  # type: ignore[call-overload]
            while member := _next(archive, metered):
                _take(archive, member, intake)
            _check_end(metered, archive.offset)
    except FAULTS as error:
        raise Damaged(f"the tar archive is damaged: {error}") from error


def _next(archive: tarfile.TarFile, metered: _Metered) -> tarfile.TarInfo | None:
    archive.members = []  # type: ignore[attr-defined]  # or it would remember every member
    metered.left = HEADER_BUDGET
    try:
        return archive.next()
    finally:
        metered.left = None


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, intake: Intake) -> None:
    if member.isdir():
        intake.directory(member.name)
    elif member.isreg():
        data = archive.extractfile(member)
        assert data is not None  # noqa: S101  regular files have data
        with data:
            intake.file(member.name, member.size, data)  # type: ignore[arg-type]  # only read() is called
    elif member.issym() or member.islnk():
        intake.link(member.name, member.linkname, symbolic=member.issym())
    else:
        intake.other(member.name, KINDS.get(member.type, f"member of type {member.type!r}"))


def _check_end(metered: _Metered, end: int) -> None:
    """Read to the end, for a compressed stream has its checksum there; the mark behind the last member must be there.

    Without this, an archive cut between two members would pass for a whole one.
    """
    metered.left = HEADER_BUDGET
    while metered.read(CHUNK):
        pass
    if metered.total < end + tarfile.BLOCKSIZE:
        raise Damaged("the tar archive ends early")


class _Metered:
    """A stream that gives out no more than ``left`` bytes (None = no limit)."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.left: int | None = HEADER_BUDGET
        self.total = 0

    def read(self, size: int = -1) -> bytes:
        if self.left is not None and self.left <= 0:
            raise Damaged(f"a member's header is longer than {HEADER_BUDGET} bytes")
        data = self._source.read(size)
        self.total += len(data)
        if self.left is not None:
            self.left -= len(data)
        return data
