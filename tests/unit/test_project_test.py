from pathlib import Path
from xml.etree import ElementTree as ET

from vmctl.errors import VmctlError
from vmctl.project_test import result
from vmctl.project_test.result import Phase, ProjectTestFailed, Suite


def suites() -> list[Suite]:
    failure = VmctlError("it broke & \x1b[31mburned\x1b[0m", details="<line>", hint="mend it")
    return [
        Suite(name="debian-12", phases=[Phase(name="up", seconds=1.5, output=["web: a\x00b"])]),
        Suite(name="other", phases=[Phase(name="up", failure=failure), Phase(name="reboot", skipped="up failed")]),
    ]


def test_junit_holds_whatever_was_printed(tmp_path: Path) -> None:
    result.write_junit(tmp_path / "r.xml", "shop", suites())
    root = ET.fromstring((tmp_path / "r.xml").read_text())  # noqa: S314  vmctl wrote it
    assert root.attrib == {"tests": "3", "failures": "1", "errors": "0", "skipped": "1", "time": "1.500"}
    first, second, third = root.iter("testcase")
    assert first.attrib == {"classname": "vmctl.shop.debian-12", "name": "up", "time": "1.500"}
    assert first.findtext("system-out") == "web: ab"
    assert "<line>\nmend it" in str(second.findtext("failure"))
    assert third.find("skipped") is not None
    assert (tmp_path / "r.xml").stat().st_mode & 0o777 == 0o644


def test_what_failed_is_said_once_for_each_suite() -> None:
    error = ProjectTestFailed(suites(), hint="look")
    assert error.brief == "other: up failed"
    assert [suite["result"] for suite in error.data["suites"]] == ["passed", "failed"]  # type: ignore[attr-defined]
    assert error.details == "it broke & \x1b[31mburned\x1b[0m\n<line>"
    assert str(suites()[1]) == "other: up failed 0.0 s, reboot skipped"
