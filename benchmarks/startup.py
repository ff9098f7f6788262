"""What the program costs before it does anything."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Finding, Project, median

BUDGET = 0.1


def measure(place: Path, *, times: int) -> Iterator[Finding]:
    """Time ``--help`` and ``--version``."""
    project = Project(place, {"VMCTL_HOME": str(place / "home")})
    for option in ("--help", "--version"):
        yield Finding(what=option, value=median(partial(project.vmctl, option), times=times), budget=BUDGET)
