"""The store of boxes: ``boxes/NAME/VERSION/ARCH/`` holds ``box.json`` and the image, named by its digest.

Which box it is says ``box.json``: a name and an origin. The path is only a place: boxes of one name, version and
architecture, but of two origins, lie side by side (``ARCH``, ``ARCH.2``…).

A box appears and disappears by one rename of its directory, so a kill -9 leaves it whole or absent. What is being made
lies in ``boxes/.new-…``, under a kernel-held lock; the next vmctl that writes removes what nobody holds. What lies in
the store and is not a box is told of, left alone, and in nobody's way.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from msgspec import Struct, structs

from vmctl import flock
from vmctl.boxes import box_names, listing
from vmctl.boxes.box import OWN_KEY, Box, BoxInfo
from vmctl.boxes.listing import METADATA, Damaged
from vmctl.boxes.versions import Constraint
from vmctl.errors import UsageError, VmctlError, WrongState, in_words, shell_command
from vmctl.events import Report, Warned, ignore
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef
from vmctl.store import files, locks

DRAFT = ".new-"
IMAGE_MODE = 0o444

Discard = Callable[[Path], None]
Users = Mapping[str, Sequence[str]]
"""Who needs which digest: their names, for messages."""


def lock_path(home: HomeLayout, kind: str, subject: str) -> Path:
    """The lock file for a box's name, source…; no subject's is another's, nor a file of the locks' own."""
    return home.locks / f"box-{kind}-{hashlib.sha256(subject.encode()).hexdigest()[:32]}"


class BoxStore(Struct, frozen=True):
    """The boxes of one data directory."""

    home: HomeLayout
    report: Report = ignore

    def boxes(self, name: str | None = None) -> list[Box]:
        """All boxes (of that name), by name, newest first; what cannot be used is told of."""
        found = []
        for entry in self._entries(name):
            if isinstance(entry, Damaged):
                self.report(Warned(text=f"a box cannot be used: {entry.problem}", hint=entry.error.hint))
            else:
                found.append(entry)
        return listing.in_order(found)

    def find(self, name: str, constraint: str = "", *, arch: str | None = None) -> Box | None:
        """The newest box that the name means, satisfies the constraint and suits this host (or ``arch``).

        Raises:
            UsageError: the constraint makes no sense, or the name means boxes of several origins.
            VmctlError: a box that may be the one is damaged.
        """
        allowed = Constraint.parse(constraint)
        wanted = box_names.architecture(arch) if arch else box_names.host_architecture()
        entries = list(self._entries(name))
        whole = listing.in_order(entry for entry in entries if isinstance(entry, Box))
        fitting = [box for box in whole if box.named and box.arch == wanted and allowed.allows(box.order)]
        found = next(iter(listing.meant(name, fitting)), None)
        for entry in entries:
            if isinstance(entry, Damaged) and listing.may_be(entry, found, allowed):
                raise entry.error
        return found

    def damaged(self, name: str | None = None) -> list[Damaged]:
        """What should be a box (of that name) and cannot be used."""
        return [entry for entry in self._entries(name) if isinstance(entry, Damaged)]

    def from_source(self, address: str) -> Box | None:
        """The box that came from that URL last."""
        return _latest(box for box in self.boxes() if box.source == address)

    def from_file(self, path: str, stamp: str) -> Box | None:
        """The box that holds what the file at ``path`` holds (or offers), unless its ``stamp`` has changed since."""
        return _latest(box for box in self.boxes() if box.provenance.get("stamps", {}).get(path) == stamp)

    def locked(self, ref: BoxRef) -> Box | None:
        """A box with the very images, and that says the same of its machines, as ``ref`` has them from a lock."""
        return next((box for box in self.boxes() if is_locked(ref, box)), None)

    def by_digest(self, digest: str) -> Box | None:
        """A box whose first disk is this very image."""
        return next((box for box in self.boxes() if box.digest == digest), None)

    def names(self) -> list[str]:
        """The names of all boxes, sorted."""
        return sorted({box.name for box in self.boxes() if box.named})

    def _entries(self, name: str | None) -> Iterator[Box | Damaged]:
        return listing.entries(self.home.boxes, name)

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
            handle = flock.claim(path)
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
        """Remove a draft. What cannot be removed is in nobody's way: it is told of, and the next vmctl tries again."""
        try:
            discard(path)
        except (OSError, VmctlError) as error:
            self.report(
                Warned(text=f"the remains {path} cannot be removed: {error}", hint=shell_command("ls", "-la", path))
            )

    def publish(self, directory: Path, info: BoxInfo) -> Box:
        """``take_in``, for a box with a version of its own."""
        return self.take_in(directory, info)[0]

    def take_in(
        self, directory: Path, info: BoxInfo, *, same: Callable[[Box], bool] | None = None, numbered: bool = True
    ) -> tuple[Box, bool]:
        """Turn a draft's ``directory``, which holds the images under their names, into a box.

        Args:
            directory: in the draft.
            info: what the box is.
            same: tells a box of that name that is this one already; it is kept, and learns what ``info`` brings.
            numbered: whether the version is the box's own, not one that gets a further number where it is taken.

        Returns:
            The box, and whether it was not there before.

        Raises:
            UsageError: there is such a version with different content.
        """
        for image in [directory / one.image_name for one in info.files]:
            image.chmod(IMAGE_MODE)
            files.sync(image)
        if (key := directory / OWN_KEY).exists():
            files.sync(key)
        with self._locked(info.name):
            there = self.boxes(info.name)
            if same and (known := next(filter(same, there), None)):
                return self._noted(known, info.provenance.get("stamps", {}), named=info.named), False
            if not numbered:
                info = structs.replace(info, version=_free(info.version, there))
            new = Box.from_json(info.to_json(), directory)
            if known := next((box for box in there if _which(box) == _which(new)), None):
                return _same(known, new), False
            return self._placed(new), True

    def _placed(self, new: Box) -> Box:
        """Move a draft's directory to its place."""
        files.write_json(new.directory / METADATA, new.to_json(), mode=0o644)
        version = self.home.boxes / box_names.to_path(new.name) / box_names.to_path(new.version)
        files.make_directory(version)
        arch = box_names.to_path(new.arch)
        places = (version / one for one in itertools.chain([arch], (f"{arch}.{n}" for n in itertools.count(2))))
        target = next(place for place in places if not os.path.lexists(place))
        new.directory.rename(target)
        for parent in (version, version.parent, self.home.boxes):
            files.sync_directory(parent)
        return structs.replace(new, directory=target)

    def annotate(self, box: Box, *, stamps: Mapping[str, str], named: bool = False) -> Box | None:
        """Remember that these files hold this box, and (``named``) that its name is one; None when it is gone."""
        with self._locked(box.name):
            there = listing.read(box.directory)
            if not isinstance(there, Box) or _which(there) != _which(box) or there.digest != box.digest:
                return None
            return self._noted(there, stamps, named=named)

    def _noted(self, box: Box, stamps: Mapping[str, str], *, named: bool) -> Box:
        """As ``annotate``, under the lock."""
        known = box.provenance.get("stamps", {})
        if stamps.items() <= known.items() and named <= box.named:
            return box
        provenance = {**box.provenance, "stamps": {**known, **stamps}}
        noted = structs.replace(box, provenance=provenance, named=named or box.named)
        files.write_json(box.directory / METADATA, noted.to_json(), mode=0o644)
        return noted

    def remove(self, box: Box, users: Users | Callable[[], Users]) -> None:
        """Remove a box.

        Args:
            box: which.
            users: who needs which digest, or what tells it: that is asked when nobody can take the box any more.

        Raises:
            WrongState: somebody needs it.
            VmctlError: the store cannot be written.
        """
        with _written(self.home), self._locked(box.name):
            if holders := (users() if callable(users) else users).get(box.digest):
                raise WrongState(
                    f"box {box} is in use",
                    details="by " + "\n   ".join(holders),
                    hint="vmctl list    # the box can go once these machines are gone",
                )
            with self.draft() as grave:
                with suppress(FileNotFoundError):
                    box.directory.rename(grave / "box")
                with suppress(OSError):  # other versions or architectures are there
                    box.directory.parent.rmdir()
                    box.directory.parent.parent.rmdir()

    def has(self, box: Box) -> bool:
        """Whether a box is in the store still, once nobody is about to remove it."""
        with self._locked(box.name):
            there = listing.read(box.directory)
        return isinstance(there, Box) and there.images == box.images

    def _locked(self, name: str) -> AbstractContextManager[None]:
        return locks.hold(lock_path(self.home, "name", name), f"box {name}", report=self.report)


def is_locked(ref: BoxRef, box: Box) -> bool:
    """Whether a box is the one that a lock means; what an older lock does not tell may be anything."""
    further = tuple(disk.digest for disk in box.further)
    return box.digest == ref.digest and ref.further in (None, further) and ref.settings in ("", box.settings)


def _latest(boxes: Iterable[Box]) -> Box | None:
    return max(boxes, key=lambda box: box.provenance.get("added", 0), default=None)


def _free(version: str, boxes: Sequence[Box]) -> str:
    """``version``, with a further number where there is a box of that version."""
    taken = {box.version for box in boxes}
    further = (f"{version}.{number}" for number in itertools.count(1))
    return next(one for one in itertools.chain([version], further) if one not in taken)


def _which(box: Box) -> tuple[str, ...]:
    return box.name, box.origin, box.version, box.arch


def _same(there: Box, new: Box) -> Box:
    if _facts(there) == _facts(new):
        return there
    what = (
        "different content" if there.images != new.images else "another user, password, firmware or cloud-init setting"
    )
    raise UsageError(
        f"box {there} is in the store already, with {what}",
        hint=f"vmctl box add --name {new.name} --version ANOTHER …",
    )


def _facts(box: Box) -> tuple[object, ...]:
    return box.digest, box.further, box.user, box.first_login_password(), box.firmware, box.cloud_init


@contextmanager
def _written(home: HomeLayout) -> Iterator[None]:
    """Turn what the operating system refuses into an error that names the store."""
    try:
        yield
    except OSError as error:
        raise VmctlError(
            "the store of boxes cannot be written", details=in_words(error), hint=shell_command("ls", "-ld", home.boxes)
        ) from error


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a draft; OSError when its maker lives."""
    handle = flock.claim(path)
    try:
        yield
    finally:
        os.close(handle)
