"""The host's own records of where projects are: ``projects/ID/place.json``, a directory by path, device and inode.

An inode's number is used again after its directory was removed; the generation, where the file system tells one
(FS_IOC_GETVERSION of Linux), and the claim in the project's directory tell the new from the old.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, ValidationError, convert, to_builtins

from vmctl.errors import VmctlError
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout, ProjectLayout
from vmctl.store import files

ID = re.compile(r"[0-9a-f]{32}")
GET_GENERATION = 0x80087601  # FS_IOC_GETVERSION: _IOR('v', 1, long)


class Where(Struct, frozen=True):
    """A directory as the kernel knows it."""

    path: str
    device: int
    inode: int
    generation: int = 0
    """Told apart from an earlier directory of the same inode; 0 where the file system does not say."""

    def is_same(self, other: Where | ProjectPlace) -> bool:
        """Whether both are one directory, however it is spelled."""
        return (self.device, self.inode, self.generation) == (other.device, other.inode, other.generation)


class ProjectPlace(Struct, frozen=True, kw_only=True):
    """One project's record."""

    id: str
    claim: str
    """What the project's directory shows to be believed after it was moved; nobody else knows it."""
    root: str
    """Its directory, as last seen, without links."""
    device: int
    inode: int
    generation: int = 0

    def layout(self, home: HomeLayout) -> ProjectLayout:
        """Where it has what."""
        return home.project(self.id, Path(self.root))

    @property
    def is_there(self) -> bool:
        """Whether its directory is still where it was last seen.

        Raises:
            OSError: that cannot be seen (no permission, a server that does not answer).
        """
        found = where(Path(self.root))
        return found is not None and found.is_same(self)


def where(path: Path) -> Where | None:
    """A directory as it is now; None = there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = os.fstat(handle)
        return Where(os.path.realpath(path), found.st_dev, found.st_ino, _generation(handle))
    finally:
        os.close(handle)


def _generation(handle: int) -> int:
    with contextlib.suppress(OSError):
        answer = fcntl.ioctl(handle, GET_GENERATION, bytes(struct.calcsize("l")))
        return int(struct.unpack("I", answer[:4])[0])  # the kernel writes an int, whatever the number says
    return 0


def load(home: HomeLayout, project: str) -> ProjectPlace | None:
    """A project's record; None = this host knows no such project.

    Raises:
        VmctlError: it is damaged.
    """
    if not ID.fullmatch(project):
        return None
    path = home.projects / project / "place.json"
    data = files.read_json(path)
    if data is None:
        return None
    try:
        place = convert(data, ProjectPlace)
    except ValidationError as error:
        raise files.damaged(path, str(error)) from error
    if place.id != project or not (place.claim and place.root):
        raise files.damaged(path, "it is another project's")
    return place


def save(home: HomeLayout, place: ProjectPlace) -> None:
    """Write a project's record."""
    files.write_json(place.layout(home).place, to_builtins(place))


def names_machines(home: HomeLayout, place: ProjectPlace) -> list[str]:
    """Names in the project's directory of machines."""
    return files.names(place.layout(home).machines)


def ids(home: HomeLayout) -> list[str]:
    """All projects that this host knows."""
    return [name for name in files.names(home.projects) if ID.fullmatch(name)]


def everywhere(home: HomeLayout, report: Report = ignore) -> Iterator[ProjectPlace]:
    """Their records; one that is damaged is an error for who uses that project, and for the others told of."""
    for project in ids(home):
        try:
            place = load(home, project)
        except (VmctlError, OSError) as error:
            report(Warned(text=f"a project cannot be read: {error}"))
            continue
        if place is not None:
            yield place
