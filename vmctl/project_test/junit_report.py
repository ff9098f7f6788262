"""The result of a test as JUnit XML, the dialect that Jenkins, GitLab and GitHub's reporters read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from vmctl.project_test.result import Phase, Suite
from vmctl.store import files

NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(path: Path, project: str, suites: Sequence[Suite]) -> None:
    """Write all suites to a file, which everybody may read."""
    root = ET.Element("testsuites", _counts([phase for suite in suites for phase in suite.phases]))
    for suite in suites:
        node = ET.SubElement(root, "testsuite", {"name": suite.name, **_counts(suite.phases)})
        for phase in suite.phases:
            _case(node, f"vmctl.{project}.{suite.name}", phase)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode", xml_declaration=False)
    files.write(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n', mode=0o644)


def _counts(phases: Sequence[Phase]) -> dict[str, str]:
    return {
        "tests": str(len(phases)),
        "failures": str(sum(phase.failure is not None for phase in phases)),
        "errors": "0",
        "skipped": str(sum(bool(phase.skipped) for phase in phases)),
        "time": f"{sum(phase.seconds for phase in phases):.3f}",
    }


def _case(parent: ET.Element, classname: str, phase: Phase) -> None:
    case = ET.SubElement(
        parent, "testcase", {"classname": classname, "name": phase.name, "time": f"{phase.seconds:.3f}"}
    )
    if phase.failure:
        failure = ET.SubElement(case, "failure", {"message": _clean(phase.failure.brief)})
        failure.text = _clean(str(phase.failure))
    if phase.skipped:
        ET.SubElement(case, "skipped", {"message": _clean(phase.skipped)})
    if phase.output:
        ET.SubElement(case, "system-out").text = _clean("\n".join(phase.output))


def _clean(text: str) -> str:
    """Text without what XML cannot hold."""
    return NOT_XML.sub("", text)
