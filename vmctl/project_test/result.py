"""How the phases of a test ended, for people, for programs and as JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from vmctl.errors import VmctlError
from vmctl.store import files

NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
        phases = [f"{one.name} {one.result}" + ("" if one.skipped else f" {one.seconds:.1f} s") for one in self.phases]
        return f"{self.name}: {', '.join(phases)}"


class ProjectTestFailed(VmctlError):
    """A test did not pass; ``data`` has all suites."""

    kind = "TrialFailed"

    def __init__(self, suites: Sequence[Suite], *, hint: str = "") -> None:
        failures = [(suite, phase) for suite in suites for phase in suite.failed]
        brief = "; ".join(f"{suite.name}: {phase.name} failed" for suite, phase in failures)
        texts = [(phase.failure.brief, phase.failure.details) for _, phase in failures if phase.failure]
        details = "\n".join(part for parts in texts for part in parts if part)
        super().__init__(brief, details=details, hint=hint)
        self.data = {"suites": [suite.as_object() for suite in suites]}


def write_junit(path: Path, project: str, suites: Sequence[Suite]) -> None:
    """Write all suites as JUnit XML, the dialect that Jenkins, GitLab and GitHub's reporters read; all may read it."""
    root = ET.Element("testsuites", _junit_counts([phase for suite in suites for phase in suite.phases]))
    for suite in suites:
        node = ET.SubElement(root, "testsuite", {"name": suite.name, **_junit_counts(suite.phases)})
        for phase in suite.phases:
            _junit_case(node, f"vmctl.{project}.{suite.name}", phase)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode", xml_declaration=False)
    files.write(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n', mode=0o644)


def _junit_counts(phases: Sequence[Phase]) -> dict[str, str]:
    return {
        "tests": str(len(phases)),
        "failures": str(sum(phase.failure is not None for phase in phases)),
        "errors": "0",
        "skipped": str(sum(bool(phase.skipped) for phase in phases)),
        "time": f"{sum(phase.seconds for phase in phases):.3f}",
    }


def _junit_case(parent: ET.Element, classname: str, phase: Phase) -> None:
    case = ET.SubElement(
        parent, "testcase", {"classname": classname, "name": phase.name, "time": f"{phase.seconds:.3f}"}
    )
    if phase.failure:
        failure = ET.SubElement(case, "failure", {"message": _xml_text(phase.failure.brief)})
        failure.text = _xml_text(str(phase.failure))
    if phase.skipped:
        ET.SubElement(case, "skipped", {"message": _xml_text(phase.skipped)})
    if phase.output:
        ET.SubElement(case, "system-out").text = _xml_text("\n".join(phase.output))


def _xml_text(text: str) -> str:
    """Text without what XML cannot hold."""
    return NOT_XML.sub("", text)
