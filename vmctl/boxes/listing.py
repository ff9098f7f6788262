"""What lies in the store: boxes, and what should be one but cannot be used; which of them a name means.

Nothing is followed: a link in the store is not a box. One entry that is damaged hides no other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from vmctl.boxes import box_names
from vmctl.boxes.box import RECIPE, Box
from vmctl.boxes.versions import Constraint, Version
from vmctl.errors import UsageError, VmctlError, shell_command
from vmctl.store import files

METADATA = "box.json"
LONGEST = 4 * 1024**2


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
        raise _unreadable(root, error) from error
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
        yield Damaged(directory, _unreadable(directory, error))
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
        box = Box.from_json(files.read_json(directory / METADATA, most=LONGEST), directory)
        _check(box)
    except (OSError, VmctlError) as error:
        return None if not os.path.lexists(directory) else Damaged(directory, _unreadable(directory, error))
    return box


def _unreadable(directory: Path, error: OSError | VmctlError) -> VmctlError:
    if isinstance(error, VmctlError):
        return error
    return VmctlError(f"{directory} cannot be read", details=str(error), hint=shell_command("ls", "-la", directory))


def _check(box: Box) -> None:
    """See that a box lies where its name says, with its images."""
    place = (box.directory.parent.parent.name, box.directory.parent.name)
    if place != (box_names.to_path(box.name), box_names.to_path(box.version)):
        raise files.damaged(box.directory / METADATA, f"it describes {box}, which does not belong there")
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


def in_order(boxes: Iterable[Box]) -> list[Box]:
    """By name, the newest first."""
    return sorted(sorted(boxes, key=lambda box: box.order, reverse=True), key=lambda box: box.name)


def meant(name: str, boxes: Sequence[Box]) -> Sequence[Box]:
    """Those of the boxes called ``name`` that the name means: vmctl's own, the servers' and the user's first.

    Raises:
        UsageError: they have several origins, and none goes before the others.
    """
    own = [box for box in boxes if box.origin in (name, RECIPE + name)]
    if len(own) == len(boxes) or box_names.is_reserved(name):
        return own
    if first := [box for box in boxes if box.origin in ("", name)]:
        return first
    if len({box.origin for box in boxes}) > 1:
        raise UsageError(
            f"the name {name} means several boxes of different origins",
            details="\n".join(f"{box} from {box.origin}" for box in boxes),
            hint=f"write the address in the Vmfile (box: {boxes[0].origin}), or give one a name: "
            "vmctl box add ADDRESS --name NAME",
        )
    return boxes


def may_be(entry: Damaged, found: Box | None, allowed: Constraint) -> bool:
    """Whether a damaged box could be the one that is looked for, were it whole."""
    version = entry.version
    if version is None:
        return found is None
    return allowed.allows(version) and (found is None or found.order < version)
