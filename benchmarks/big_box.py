"""Taking a 2 GiB image into the store: time against ``cp`` and ``sha256sum``, and the most memory it ever has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import VMCTL, Finding, Project, alternating

SIZE = 2 * 1024**3
CHUNK = 4 * 1024**2
TIME_BUDGET = 1.2
MEMORY_BUDGET = 120.0


def measure(place: Path, *, times: int) -> Iterator[Finding]:
    """Add a raw disk of random bytes, each time to a new store."""
    source = place / "disk.raw"
    _write(source)
    environment = {"VMCTL_HOME": str(place / "home")}
    project = Project(place, environment)
    peaks: list[int] = []

    def add() -> None:
        peaks.append(peak([str(VMCTL), "box", "add", str(source), "--name", "bench"], environment))
        shutil.rmtree(place / "home")

    def plain() -> None:
        project.run("cp", "--reflink=never", source, place / "copy")
        project.run("sha256sum", place / "copy")
        (place / "copy").unlink()

    ours, theirs = alternating(add, plain, times=times)
    detail = f"{ours:.2f} s against {theirs:.2f} s for {SIZE // 1024**2} MiB"
    yield Finding(
        what="box add of 2 GiB / cp + sha256sum", value=ours / theirs, unit="x", budget=TIME_BUDGET, detail=detail
    )
    yield Finding(what="box add of 2 GiB, memory", value=max(peaks) / 1024, unit="MiB", budget=MEMORY_BUDGET)


def _write(path: Path) -> None:
    with path.open("wb") as stream:
        stream.write(os.urandom(510) + b"\x55\xaa" + os.urandom(CHUNK - 512))
        for _ in range(SIZE // CHUNK - 1):
            stream.write(os.urandom(CHUNK))


def peak(argv: list[str], environment: dict[str, str]) -> int:
    """Run a program; its largest resident set, in KiB.

    Raises:
        SystemExit: it failed.
    """
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    pid = os.posix_spawn(argv[0], argv, {**os.environ, **environment}, file_actions=nothing)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"benchmark: {' '.join(argv)}: status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss
