"""Taking a local image into the store, against copying and hashing it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from benchmarks.measure import Finding, Project, alternating

BUDGET = 1.2
"""Of the time that ``cp`` and ``sha256sum`` take together."""


def measure(place: Path, box_home: Path, *, times: int) -> Iterator[Finding]:
    """Add the debian-12 image, each time to a new store."""
    image = max(box_home.glob("boxes/debian-12/*/x86_64/*.qcow2"), key=lambda path: path.stat().st_mtime)
    source = place / "image.qcow2"
    shutil.copyfile(image, source)
    numbers = count()

    def add() -> None:
        home = place / f"home-{next(numbers)}"
        Project(place, {"VMCTL_HOME": str(home)}).vmctl("box", "add", str(source), "--name", "bench")
        shutil.rmtree(home)

    ours, plain = alternating(add, lambda: _copy_and_hash(Project(place, {}), source), times=times)
    detail = f"{ours:.2f} s against {plain:.2f} s for {source.stat().st_size // 1024**2} MiB"
    yield Finding(what="box add / cp + sha256sum", value=ours / plain, unit="x", budget=BUDGET, detail=detail)


def _copy_and_hash(project: Project, source: Path) -> None:
    copy = project.root / "copy"
    project.run("cp", "--reflink=never", source, copy)
    printed = project.run("sha256sum", copy)
    assert len(printed.split()[0]) == hashlib.sha256().digest_size * 2  # noqa: S101  sha256sum did its work
    copy.unlink()
