"""What lies in the store: boxes, and what should be one but cannot be used.

Nothing is followed: a link in the store is not a box. One entry that is damaged hides no other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from vmctl.boxes import box_names
from vmctl.boxes.box import Box
from vmctl.boxes.versions import Version
from vmctl.errors import UsageError, VmctlError
from vmctl.store import files

METADATA = "box.json"


class Damaged(Struct, frozen=True):
    """A directory of the store that holds no usable box."""

    directory: Path
    error: VmctlError

    @property
    def name(self) -> str:
        """What it was called, by its place."""
        return box_names.from_path(self.directory.parent.parent.name)

    @property
    def problem(self) -> str:
        """What is wrong with it, in a line."""
        return f"{self.error.brief}: {self.error.details}" if self.error.details else self.error.brief

    @property
    def version(self) -> Version | None:
        """Which version it was, by its place; None when that cannot be told."""
        try:
            return Version(box_names.from_path(self.directory.parent.name))
        except UsageError:
            return None


def entries(root: Path, name: str | None = None) -> Iterator[Box | Damaged]:
    """All that is in the store at ``root`` (under that name), whole or not, by its path.

    Raises:
        VmctlError: the store itself cannot be read.
    """
    try:
        tops = _directories(root)
    except OSError as error:
        raise _told(root, error) from error
    for top in tops:
        if not top.name.startswith(".") and name in (None, box_names.from_path(top.name)):
            for place in _places(top, 2):
                if entry := place if isinstance(place, Damaged) else read(place):
                    yield entry


def _places(directory: Path, depth: int) -> Iterator[Path | Damaged]:
    """The directories that lie ``depth`` levels down, and those on the way that cannot be read."""
    if depth == 0:
        yield directory
        return
    try:
        inner = _directories(directory)
    except OSError as error:
        yield Damaged(directory, _told(directory, error))
        return
    for one in inner:
        yield from _places(one, depth - 1)


def read(directory: Path) -> Box | Damaged | None:
    """The box in a directory; None when there is none (also: not any more)."""
    try:
        metadata = _kind(directory / METADATA)
        if metadata is None:
            return None
        if not stat.S_ISREG(metadata):
            raise files.damaged(directory / METADATA, "it is not a file")
        box = Box.from_json(files.read_json(directory / METADATA), directory)
        _check(box)
    except (OSError, VmctlError) as error:
        return None if not os.path.lexists(directory) else Damaged(directory, _told(directory, error))
    return box


def _told(directory: Path, error: OSError | VmctlError) -> VmctlError:
    if isinstance(error, VmctlError):
        return error
    return VmctlError(f"{directory} cannot be read", details=str(error), hint=f"ls -la '{directory}'")


def _check(box: Box) -> None:
    """See that a box lies where its name says, with its images."""
    place = (box.directory.parent.parent.name, box.directory.parent.name)
    if place != (box_names.to_path(box.name), box_names.to_path(box.version)):
        raise files.damaged(box.directory / METADATA, f"it speaks of {box}, which does not belong there")
    for image in box.files:
        if not stat.S_ISREG(_kind(box.directory / image.image_name) or 0):
            raise files.damaged(box.directory / METADATA, f"the image {image.image_name} cannot be read")


def _kind(path: Path) -> int | None:
    """The file's type and mode, of a link its own; None when there is nothing."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return None


def _directories(path: Path) -> list[Path]:
    """The directories in a directory, sorted, without links; none where it is not there."""
    try:
        with os.scandir(path) as found:
            return sorted(path / entry.name for entry in found if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
