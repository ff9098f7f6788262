"""How the phases of a test ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vmctl.errors import VmctlError


@dataclass(kw_only=True)
class Phase:
    """One phase: "up", "idempotence", "verify site"."""

    name: str
    seconds: float = 0.0
    failure: VmctlError | None = None
    skipped: str = ""
    """Why it was not run; "" = it was."""
    output: list[str] = field(default_factory=list)
    """What programs printed."""

    @property
    def result(self) -> str:
        """For programs and people."""
        return "failed" if self.failure else "skipped" if self.skipped else "passed"

    def as_object(self) -> dict[str, Any]:
        """The phase for programs."""
        return {
            "name": self.name,
            "result": self.result,
            "seconds": round(self.seconds, 3),
            **({"skipped": self.skipped} if self.skipped else {}),
            **({"failure": str(self.failure)} if self.failure else {}),
        }


@dataclass(kw_only=True)
class Suite:
    """The phases with one box."""

    name: str
    phases: list[Phase] = field(default_factory=list)

    @property
    def failed(self) -> list[Phase]:
        """The phases that failed."""
        return [phase for phase in self.phases if phase.failure]

    def as_object(self) -> dict[str, Any]:
        """The suite for programs."""
        phases = [phase.as_object() for phase in self.phases]
        return {"name": self.name, "result": "failed" if self.failed else "passed", "phases": phases}

    def __str__(self) -> str:
        """One line: "debian-12: up passed 31.2 s, idempotence passed 8.0 s"."""
        said = [f"{one.name} {one.result}" + ("" if one.skipped else f" {one.seconds:.1f} s") for one in self.phases]
        return f"{self.name}: {', '.join(said)}"


class ProjectTestFailed(VmctlError):
    """A test did not pass; ``data`` has all suites."""

    kind = "TrialFailed"

    def __init__(self, suites: Sequence[Suite], *, hint: str = "") -> None:
        failures = [(suite, phase) for suite in suites for phase in suite.failed]
        brief = "; ".join(f"{suite.name}: {phase.name} failed" for suite, phase in failures)
        said = [(phase.failure.brief, phase.failure.details) for _, phase in failures if phase.failure]
        details = "\n".join(part for parts in said for part in parts if part)
        super().__init__(brief, details=details, hint=hint)
        self.data = {"suites": [suite.as_object() for suite in suites]}
