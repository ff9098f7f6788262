"""Measuring: what was found, against which budget, and timing programs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VMCTL = Path(sys.executable).with_name("vmctl")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table."""

    what: str
    value: float
    """Seconds, or a ratio; see ``unit``."""
    budget: float
    unit: str = "s"
    """"s", or "x" for a ratio of two times."""
    detail: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the budget is kept."""
        return self.value <= self.budget

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "kept": self.is_kept}


@dataclass(frozen=True)
class Project:
    """A directory with a Vmfile, and the environment that vmctl runs in."""

    root: Path
    environment: Mapping[str, str]

    def run(self, *argv: str | Path) -> str:
        """Run a program in the project; what it printed.

        Raises:
            SystemExit: it failed; a measurement of a failure is none.
        """
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            argv, cwd=self.root, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"benchmark: {' '.join(map(str, argv))}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def vmctl(self, *words: str) -> str:
        """Run vmctl in the project."""
        return self.run(VMCTL, *words)


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median(work: Callable[[], object], *, times: int) -> float:
    """The median of ``times`` runs, after one that warms the caches."""
    work()
    return statistics.median(seconds(work) for _ in range(times))


def alternating(first: Callable[[], object], second: Callable[[], object], *, times: int) -> tuple[float, float]:
    """The medians of two works that take turns, so that what else the machine does meets both."""
    first()
    second()
    pairs = [(seconds(first), seconds(second)) for _ in range(times)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def table(findings: Sequence[Finding]) -> str:
    """The findings, in columns."""
    rows = [("what", "measured", "budget", "", "")]
    for finding in findings:
        verdict = "ok" if finding.is_kept else "OVER"
        measured, budget = (f"{value:.3f} {finding.unit}" for value in (finding.value, finding.budget))
        rows.append((finding.what, measured, f"<= {budget}", verdict, finding.detail))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def ratio(what: str, ours: Sequence[float], other: Sequence[float], budget: float) -> Finding:
    """The ratio of the medians of two works that took turns."""
    mine, theirs = statistics.median(ours), statistics.median(other)
    detail = f"{mine:.1f} s against {theirs:.1f} s, medians of {listed(ours)} and {listed(other)}"
    return Finding(what=what, value=mine / theirs, unit="x", budget=budget, detail=detail)


def listed(times: Iterable[float]) -> str:
    """Times for a detail."""
    return "/".join(f"{taken:.1f}" for taken in times)
