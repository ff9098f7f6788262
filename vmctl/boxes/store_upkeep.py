"""Upkeep of the store: boxes that no machine needs, downloads that nobody ends, images that are not what they were."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmctl import interrupt
from vmctl.boxes import locking
from vmctl.boxes.box import Box, BoxImage
from vmctl.boxes.checksum import Hashing
from vmctl.events import Progress, Report, Warned, ignore
from vmctl.layout import MACHINE, VMFILE, HomeLayout
from vmctl.store import files, project_identity, records

STALE = 24 * 3600.0
"""Seconds after which a partial download counts as given up; a younger one may be under way."""
BLOCK = 512
CHUNK = 1024**2
REPORT_EVERY = 256 * CHUNK


def users(home: HomeLayout, *, report: Report = ignore) -> Mapping[str, list[str]]:
    """Box digest → the machines that need it: "machine web of /home/me/project".

    Raises:
        VmctlError: a machine's record cannot be read, so nobody knows what it needs.
    """
    found: dict[str, list[str]] = {}
    for place in sorted(project_identity.known(home, report=report), key=lambda place: place.root):
        if not place.is_there:
            text = f"the project {place.root} is gone; its machines, if any are left, are not counted"
            report(Warned(text=text, hint="vmctl list"))
            continue
        layout = place.layout(home)
        for name in files.names(layout.machines):
            record = records.load(layout.machine(name)) if MACHINE.fullmatch(name) else None
            if record and record.box.digest:
                found.setdefault(record.box.digest, []).append(f"machine {record.machine} of {place.root}")
    return found


def needed(home: HomeLayout, boxes: Sequence[Box], *, report: Report = ignore) -> Mapping[str, list[str]]:
    """As ``users``, and the locks of projects: those of known ones, and all that boxes were locked by.

    Raises:
        VmctlError: as ``users``.
    """
    found = {digest: list(names) for digest, names in users(home, report=report).items()}
    for path in sorted(_locks(home, boxes)):
        for digest in locking.digests(path):
            found.setdefault(digest, []).append(f"the lock {path}")
    return found


def _locks(home: HomeLayout, boxes: Sequence[Box]) -> set[Path]:
    known = {locking.path_for(Path(place.root) / VMFILE) for place in project_identity.known(home)}
    stamps = (stamp for box in boxes for stamp in box.provenance.get("stamps", {}))
    return known | {Path(stamp.removeprefix(locking.LOCKED)) for stamp in stamps if stamp.startswith(locking.LOCKED)}


def newest(boxes: Sequence[Box]) -> list[Box]:
    """The newest box of each name, origin and architecture; only those can be out of date."""
    best: dict[object, Box] = {}
    for box in boxes:
        if box.line not in best or best[box.line].order < box.order:
            best[box.line] = box
    return list(best.values())


def superfluous(boxes: Sequence[Box], users: Mapping[str, Sequence[str]]) -> list[Box]:
    """Boxes that have a newer version of the same name, origin and architecture, and that nobody needs."""
    kept = {id(box) for box in newest(boxes)}
    return [box for box in boxes if id(box) not in kept and not users.get(box.digest)]


def given_up(home: HomeLayout, *, now: float | None = None) -> list[Path]:
    """Partial downloads (and their notes) that nobody has touched for a day."""
    oldest = (time.time() if now is None else now) - STALE
    return sorted(path for path in home.downloads.glob("*") if path.is_file() and path.stat().st_mtime < oldest)


def allocated(path: Path) -> int:
    """Bytes on disk of a file, or of all files below a directory; holes cost nothing."""
    paths = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file() and not one.is_symlink()]
    return sum(one.stat().st_blocks * BLOCK for one in paths)


def damage(box: Box, *, report: Report = ignore) -> str:
    """What is wrong with a box's images; "" when they are sound.

    Raises:
        Interrupted: the user asked to stop.
    """
    return next((text for one in box.files if (text := _damage(box.directory, one, report))), "")


def _damage(directory: Path, image: BoxImage, report: Report) -> str:
    hashing = Hashing()
    try:
        with (directory / image.image_name).open("rb") as stream:
            while data := stream.read(CHUNK):
                interrupt.check()
                hashing.update(data)
                if hashing.size % REPORT_EVERY == 0:
                    report(Progress(step="verify_box", done=hashing.size, total=image.size))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if hashing.sha256 != image.digest:
        return f"its content changed: {hashing.size} bytes with the digest {hashing.sha256}"
    return ""
