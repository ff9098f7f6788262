"""Let the ordinary user reach the repository and its Python below somebody's private home directory.

A checkout in /root or in a 0750 home is normal; session-mode tests must be able to run there. The first
directory on the way that lets nobody through is covered by an overlay of itself (in this mount namespace only)
and opened there; the paths asked for are bound back from the real directory, so that what is written to them
stays.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from tests.host.commands import must


def expose(paths: Iterable[Path], staging: Path) -> None:
    """Make every directory above ``paths`` searchable for everybody in this mount namespace."""
    staging.mkdir()
    must("mount", "-t", "tmpfs", "-o", "mode=0711", "tmpfs", str(staging))
    covered: dict[Path, Path] = {}
    for path in paths:
        for directory in reversed(path.parents):
            if not directory.stat().st_mode & stat.S_IXOTH:
                _open(directory, covered, staging)
        _bind_back(path, covered)


def _open(directory: Path, covered: dict[Path, Path], staging: Path) -> None:
    if not any(directory.is_relative_to(top) for top in covered):
        covered[directory] = _cover(directory, staging / str(len(covered)))
    directory.chmod(directory.stat().st_mode | stat.S_IXOTH)


def _cover(directory: Path, place: Path) -> Path:
    """Mount an overlay of ``directory`` over it; the path under which the real one is still there."""
    real, upper, work = place / "real", place / "upper", place / "work"
    for path in (real, upper, work):
        path.mkdir(parents=True)
    must("mount", "--rbind", str(directory), str(real))
    must(
        "mount",
        "-t",
        "overlay",
        "-o",
        f"lowerdir={real},upperdir={upper},workdir={work}",
        "overlay",
        str(directory),
    )
    return real


def _bind_back(path: Path, covered: dict[Path, Path]) -> None:
    for top, real in covered.items():
        if path.is_relative_to(top):
            must("mount", "--rbind", str(real / path.relative_to(top)), str(path))
