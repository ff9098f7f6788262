"""`vmctl box prune` and `du`: what the store may do without, and what it takes up."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmctl.boxes.box import Box
from vmctl.boxes.updating import newest
from vmctl.layout import HomeLayout

STALE = 24 * 3600.0
"""Seconds after which a partial download counts as given up; a younger one may be under way."""
BLOCK = 512


def superfluous(boxes: Sequence[Box], users: Mapping[str, Sequence[str]]) -> list[Box]:
    """Boxes that have a newer version of the same name, origin and architecture, and that no machine needs."""
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
