"""The store of boxes: ``boxes/NAME/VERSION/ARCH/`` holds ``box.json`` and the image, named by its digest.

A box appears and disappears by one rename of its ARCH directory, so a kill -9 leaves it whole or absent. What is
being made lies in ``boxes/.new-…``, under a kernel-held lock; the next vmctl that writes removes what nobody holds.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from msgspec import Struct, structs

from vmctl.boxes import names
from vmctl.boxes.box import OWN_KEY, Box, BoxInfo
from vmctl.boxes.versions import Constraint
from vmctl.errors import UsageError, VmctlError, WrongState
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.store import files, locks

METADATA = "box.json"
DRAFT = ".new-"
IMAGE_MODE = 0o444

Discard = Callable[[Path], None]


class Shelf(Struct, frozen=True):
    """The boxes of one data directory."""

    home: HomeLayout
    report: Report = ignore

    def boxes(self, name: str | None = None) -> list[Box]:
        """All boxes (of that name), by name, newest first."""
        found = [box for directory in self._named(name) for box in _versions(directory)]
        return sorted(sorted(found, key=lambda box: box.order, reverse=True), key=lambda box: box.name)

    def find(self, name: str, constraint: str = "", *, arch: str | None = None) -> Box | None:
        """The newest box of that name that satisfies the constraint and suits this host (or ``arch``).

        Raises:
            UsageError: the constraint makes no sense.
            VmctlError: a box is damaged.
        """
        allowed = Constraint.parse(constraint)
        wanted = names.architecture(arch) if arch else names.host_architecture()
        return next((box for box in self.boxes(name) if box.arch == wanted and allowed.allows(box.order)), None)

    def from_source(self, url: str) -> Box | None:
        """The box that came from that URL last."""
        return _latest(box for box in self.boxes() if box.source == url)

    def from_file(self, path: str, stamp: str) -> Box | None:
        """The box that holds what the file at ``path`` holds, unless its ``stamp`` has changed since."""
        return _latest(box for box in self.boxes() if box.provenance.get("stamps", {}).get(path) == stamp)

    def free_version(self, name: str, version: str) -> str:
        """``version``, with a further number where the store has a box of that name and version."""
        taken = {box.version for box in self.boxes(name)}
        further = (f"{version}.{number}" for number in itertools.count(1))
        return next(one for one in itertools.chain([version], further) if one not in taken)

    def by_digest(self, digest: str) -> Box | None:
        """A box with this very image."""
        return next((box for box in self.boxes() if box.digest == digest), None)

    def names(self) -> list[str]:
        """The names of all boxes, sorted."""
        return sorted(names.from_path(directory.name) for directory in self._named(None))

    def _named(self, name: str | None) -> Iterator[Path]:
        if name is not None:
            yield self.home.boxes / names.to_path(name)
        elif self.home.boxes.is_dir():
            yield from sorted(path for path in self.home.boxes.iterdir() if not path.name.startswith("."))

    @contextmanager
    def draft(self, discard: Discard = files.remove_tree) -> Iterator[Path]:
        """A new directory in the store, to make a box in; whatever is left there at the end is removed.

        Args:
            discard: how to remove it, where that takes more than the user's own rights.
        """
        files.make_directory(self.home.boxes)
        with locks.hold(self.home.locks / "box-drafts", "the store of boxes", report=self.report):
            self._clean(discard)
            path = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.home.boxes))
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield path
        finally:
            self._discard(path, discard)
            os.close(handle)

    def _clean(self, discard: Discard) -> None:
        """Remove the drafts of processes that are gone."""
        for path in self.home.boxes.glob(f"{DRAFT}*"):
            with suppress(OSError), _held(path):
                self._discard(path, discard)

    def _discard(self, path: Path, discard: Discard) -> None:
        """Remove a draft. What can not be removed is in nobody's way: it is told of, and the next vmctl tries again."""
        try:
            discard(path)
        except (OSError, VmctlError) as error:
            self.report(Warned(text=f"the remains {path} can not be removed: {error}", hint=f"ls -la '{path}'"))

    def publish(self, directory: Path, info: BoxInfo) -> Box:
        """Turn a draft's ``directory``, which holds the images under their names, into a box.

        Raises:
            UsageError: there is such a version with another content.
        """
        for image in [directory / one.image_name for one in info.images]:
            image.chmod(IMAGE_MODE)
            _sync(image)
        if (key := directory / OWN_KEY).exists():
            _sync(key)
        files.write_json(directory / METADATA, info.to_json(), mode=0o644)
        target = self._place(info.name, info.version, info.arch)
        with self._locked(info.name):
            if there := _read(target):
                return _same(there, Box.from_json(info.to_json(), directory))
            files.make_directory(target.parent)
            directory.rename(target)
            for parent in (target.parent, target.parent.parent, self.home.boxes):
                files.sync_directory(parent)
        return Box.from_json(info.to_json(), target)

    def annotate(self, box: Box, *, stamps: Mapping[str, str]) -> Box:
        """Remember that these files hold this box."""
        known = box.provenance.get("stamps", {})
        if stamps.items() <= known.items():
            return box
        info = structs.replace(box, provenance={**box.provenance, "stamps": {**known, **stamps}})
        with self._locked(box.name):
            files.write_json(box.directory / METADATA, info.to_json(), mode=0o644)
        return info

    def remove(self, box: Box, users: Mapping[str, Sequence[str]]) -> None:
        """Remove a box.

        Args:
            box: which.
            users: who needs which digest: their names, for the message.

        Raises:
            WrongState: somebody needs it.
        """
        if holders := users.get(box.digest):
            raise WrongState(
                f"box {box} is in use",
                details="by " + "\n   ".join(holders),
                hint="destroy those machines first: vmctl destroy",
            )
        with self._locked(box.name), self.draft() as grave:
            with suppress(FileNotFoundError):
                box.directory.rename(grave / "box")
            with suppress(OSError):  # other versions or architectures are there
                box.directory.parent.rmdir()
                box.directory.parent.parent.rmdir()

    def _place(self, name: str, version: str, arch: str) -> Path:
        return self.home.boxes / names.to_path(name) / names.to_path(version) / names.to_path(arch)

    def _locked(self, name: str) -> AbstractContextManager[None]:
        return locks.hold(self.home.locks / f"box-{names.to_path(name)}", f"box {name}", report=self.report)


def _latest(boxes: Iterable[Box]) -> Box | None:
    return max(boxes, key=lambda box: box.provenance.get("added", 0), default=None)


def _versions(directory: Path) -> Iterator[Box]:
    """All boxes below a name's directory."""
    for metadata in directory.glob(f"*/*/{METADATA}"):
        if box := _read(metadata.parent):
            yield box


def _read(directory: Path) -> Box | None:
    """The box in ``directory``; None when there is none (also: not any more)."""
    data = files.read_json(directory / METADATA)
    return None if data is None else Box.from_json(data, directory)


def _same(there: Box, new: Box) -> Box:
    if _facts(there) == _facts(new):
        return there
    what = "another content" if there.digest != new.digest else "another user, password, firmware or cloud-init setting"
    raise UsageError(
        f"box {there} is in the store already, with {what}",
        hint=f"vmctl box add --name {new.name} --version ANOTHER …, or vmctl box remove {there.name}@{there.version}",
    )


def _facts(box: Box) -> tuple[object, ...]:
    return box.digest, box.further, box.user, box.first_login_password(), box.firmware, box.cloud_init


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a draft; OSError when its maker lives."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
