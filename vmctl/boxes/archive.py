"""Unpacking what strangers packed: a .box or .ova (tar, also compressed, or zip) into a new directory.

An archive may only hold files and directories, each once, below its own root, up to a given size. Everything else
(absolute names, ``..``, devices, links out of the archive) is refused before anything of it is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vmctl.boxes import compression, space, streams
from vmctl.boxes.compression import DamagedStream
from vmctl.errors import VmctlError, in_words, shell_command
from vmctl.store import files

TAR_MAGIC = (257, b"ustar")
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
BLOCK = 512
JUNK_DIRECTORIES = frozenset({"__macosx", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd", "paxheader"})
JUNK_FILES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "@paxheader"})
JUNK_PREFIXES = ("._", "paxheaders.")
"""What file managers and tape programs leave beside a user's files, compared in lower case; no box needs it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnpackLimits:
    """How much an archive may unpack to."""

    size: int | None = None
    """Bytes, holes included, over all members; None = ``streams.bound`` of the archive's."""
    members: int = 1000
    depth: int = 32
    """Directories of a member's name; boxes have hardly any."""


class BadArchive(VmctlError):
    """An archive is damaged, or holds what no box may hold."""

    def __init__(self, archive: str, details: str) -> None:
        super().__init__(
            f"{archive} cannot be unpacked",
            details=details,
            hint="download it again, and compare its checksum with the publisher's",
        )


def is_archive(file: Path | BinaryIO) -> bool:
    """Whether the file's content (never mind its name) is a tar, compressed tar or zip; an open one is rewound."""
    with _opened(file) as source:
        return _is_archive(source)


def _is_archive(source: BinaryIO) -> bool:
    head = source.read(BLOCK)
    source.seek(0)
    if head.startswith(ZIP_MAGIC):
        return True
    if found := compression.sniff(head):
        try:
            head = compression.opened(source, found).read(BLOCK)
        except DamagedStream:
            return False
        finally:
            source.seek(0)
    return is_tar(head)


def is_tar(head: bytes) -> bool:
    """Whether a file that begins with these 512 bytes is a tar: by its magic, or (older ones) by its checksum."""
    import tarfile

    offset, magic = TAR_MAGIC
    if head[offset:].startswith(magic):
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def unpack(archive: Path | BinaryIO, into: Path, *, name: str, limits: UnpackLimits | None = None) -> tuple[Path, ...]:
    """Unpack into the new directory ``into``, zeros as holes, and return the files, relative to it.

    Args:
        archive: a tar (also gzip, xz, zstd, bzip2) or zip, told by its content; it may be open, at its start.
        into: must not exist yet; on failure, it does not exist afterwards.
        name: what the user calls the archive, for errors.
        limits: how much may come out.

    Raises:
        BadArchive: it is damaged or holds what no box may hold; nothing was written outside ``into``.
        NoSpace: it would take the reserve of the disk.
        VmctlError: the disk cannot be written.
        Interrupted: the user asked to stop.
    """
    files.make_directory(into.parent)
    into.mkdir(mode=files.PRIVATE_DIRECTORY)
    try:
        with _naming_failures(name, into), _opened(archive) as source:
            return _fill(source, Intake(into, limits or UnpackLimits()))
    except BaseException:
        files.remove_tree(into)
        raise


def _opened(file: Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    return file.open("rb") if isinstance(file, Path) else nullcontext(file)


@contextmanager
def _naming_failures(name: str, into: Path) -> Iterator[None]:
    """Turn what can go wrong into errors that name the archive."""
    try:
        with space.needed(into.parent, f"to unpack {name}"):
            yield
    except (RefusedMember, DamagedStream) as error:
        raise BadArchive(name, str(error)) from error
    except OSError as error:
        raise VmctlError(
            f"{name} could not be unpacked", details=in_words(error), hint=shell_command("ls", "-ld", into.parent)
        ) from error


def _fill(source: BinaryIO, intake: Intake) -> tuple[Path, ...]:
    from vmctl.boxes import archive_members

    head = source.read(BLOCK)
    source.seek(0)
    if head.startswith(ZIP_MAGIC):
        archive_members.unpack_zip(source, intake)
    elif found := compression.sniff(head):
        archive_members.unpack_tar(compression.opened(source, found), intake)
    else:
        archive_members.unpack_tar(source, intake)
    return intake.finish()


class RefusedMember(Exception):
    """A member that no box may hold; says which and why."""


@dataclass
class Intake:
    """Takes an archive's members, one by one, and refuses what is unsafe."""

    root: Path
    limits: UnpackLimits
    packed: int = 0
    """Size of the archive, which whoever reads it tells."""
    _size: int = 0
    _count: int = 0
    _files: dict[PurePosixPath, Path] = field(default_factory=dict)
    _links: dict[PurePosixPath, tuple[str, PurePosixPath]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._room = space.Room(self.root, "to unpack the archive")

    def directory(self, name: str) -> None:
        """Take a directory."""
        path = self._place(name)
        if path.parts and not is_junk(path):
            self._make(path)

    def file(self, name: str, size: int, data: BinaryIO) -> None:
        """Take a file of ``size`` bytes, unless it is junk."""
        path = self._new(name)
        if is_junk(path):
            return
        self._size += size
        most = streams.bound(self.packed) if self.limits.size is None else self.limits.size
        if size < 0 or self._size > most:
            raise RefusedMember(f"member {name!r}: it unpacks to more than {most} bytes")
        self._make(path.parent)
        target = self.root / path
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.PRIVATE_FILE), "wb") as stream:
            try:
                got = streams.copy(data.read, stream, limit=size, room=self._room)
            except streams.TooLong:
                raise RefusedMember(
                    f"member {name!r}: it unpacks to more than the {size} bytes that it declares"
                ) from None
        if got != size:
            raise RefusedMember(f"member {name!r}: only {got} of {size} bytes are there")
        self._files[path] = target

    def link(self, name: str, target: str, *, symbolic: bool) -> None:
        """Take a link; it is made at the end, as a hard link to a file that came out of this archive."""
        path = self._new(name)
        if is_junk(path):
            return
        base = path.parent if symbolic else PurePosixPath()
        self._links[path] = name, _followed(base, target, name)

    def other(self, name: str, kind: str) -> None:
        """Refuse a member that is not a file, directory or link."""
        raise RefusedMember(f"member {name!r}: it is a {kind}, and a box holds only files")

    def finish(self) -> tuple[Path, ...]:
        """Make the links; the relative paths of all files."""
        for path, (name, target) in self._links.items():
            if target not in self._files:
                raise RefusedMember(f"member {name!r}: it links to {str(target)!r}, which is not a file of the archive")
            self._make(path.parent)
            os.link(self._files[target], self.root / path)
        if not self._files:
            raise RefusedMember("it holds no files")
        return tuple(Path(path) for path in (*self._files, *self._links))

    def _new(self, name: str) -> PurePosixPath:
        path = self._place(name)
        if path in self._files or path in self._links or (self.root / path).is_dir():
            raise RefusedMember(f"member {name!r}: there are two of that name")
        return path

    def _place(self, name: str) -> PurePosixPath:
        self._count += 1
        if self._count > self.limits.members:
            raise RefusedMember(f"it has more than {self.limits.members} members")
        if name.startswith("/"):
            raise RefusedMember(f"member {name!r}: the name is absolute")
        if not name or "\0" in name or "\\" in name:
            raise RefusedMember(f"member {name!r}: invalid file name")
        path = PurePosixPath(name)
        if ".." in path.parts:
            raise RefusedMember(f"member {name!r}: the name leads out of the archive")
        if len(path.parts) > self.limits.depth:
            raise RefusedMember(f"member {name[:40]!r}…: it lies more than {self.limits.depth} directories deep")
        return path

    def _make(self, path: PurePosixPath) -> None:
        """Make a directory and its parents; a file in their place is refused."""
        for part in (*reversed(path.parents), path):
            if part in self._files or part in self._links:
                raise RefusedMember(f"member {str(path)!r}: {str(part)!r} is a file and a directory")
            (self.root / part).mkdir(mode=files.PRIVATE_DIRECTORY, exist_ok=True)


def is_junk(path: PurePosixPath) -> bool:
    """Whether a file manager or tape program put the member there, not the box's maker."""
    *directories, name = (part.lower() for part in path.parts)
    known = JUNK_FILES | JUNK_DIRECTORIES
    return (
        name in known
        or any(one in JUNK_DIRECTORIES for one in directories)
        or any(one.startswith(JUNK_PREFIXES) for one in (*directories, name))
    )


def _followed(base: PurePosixPath, target: str, name: str) -> PurePosixPath:
    """Where a link leads, worked out by name only: no directory of ours is a link."""
    parts: list[str] = []
    for part in (base / target).parts:  # an absolute target replaces the base, and its "/" is refused below
        if part == "/" or (part == ".." and not parts):
            raise RefusedMember(f"member {name!r}: the link leads out of the archive")
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)
