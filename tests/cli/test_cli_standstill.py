"""Machines that their hypervisor stops in the middle of work: told, and going on as soon as they can."""

from __future__ import annotations

import itertools
import sys
import time

import pytest

from tests.cli.harness import Project
from vmctl.driver import Host, State, Tag
from vmctl.lifecycle import standstill
from vmctl.testing import FakeDriver

FULL = "this host could not write to its disk"
STOP = f"""\
#!{sys.executable}
import time
from pathlib import Path
from vmctl.driver import Host, State
from vmctl.testing import FakeDriver

home = Path(HOME)
driver = FakeDriver(Host(home=home), directory=home / "fake")
(name,) = driver.states()
driver.put(name, State.PAUSED, "{FULL}")
until = time.monotonic() + 30
while driver.states()[name].state is not State.RUNNING and time.monotonic() < until:
    time.sleep(0.02)
"""


def driver_of(project: Project) -> FakeDriver:
    return FakeDriver(Host(home=project.home), directory=project.home / "fake")


def test_one_that_stops_while_it_is_provisioned_is_told_and_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standstill, "EVERY", 0.02)
    (project.root / "stop").write_text(STOP.replace("HOME", repr(str(project.home))))
    project.vmfile("provision: [{shell: {script: ./stop, on: host}}]\n")
    ran = project.vmctl("up")
    assert ran.err.count(f"default: warning: {FULL} (df -h)\n") == 1
    assert project.states() == {"default": "running"}
    assert f"default: warning: {FULL} (df -h)\n" in project.vmctl("provision").err


def test_nobody_waits_for_the_ssh_of_one_that_stands_still(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.vmfile("")
    start = FakeDriver.start

    def stop_at_once(driver: FakeDriver, name: str, tag: Tag) -> None:
        start(driver, name, tag)
        driver.put(name, State.PAUSED, FULL)

    with monkeypatch.context() as patch:
        patch.setattr(FakeDriver, "start", stop_at_once)
        failed = project.vmctl("up", status=3)
    assert f"default: {FULL}\nhint: vmctl up default" in failed.err
    assert f"default: warning: {FULL} (vmctl resume default)\n" in project.vmctl("status").err
    project.vmctl("up")
    assert project.states() == {"default": "running"}
    assert FULL not in project.vmctl("status").err


def test_one_that_was_suspended_by_wish_is_left_alone(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    driver = driver_of(project)
    (name,) = driver.states()
    driver.put(name, State.PAUSED)
    assert project.vmctl("status").err == ""
    assert project.states() == {"default": "paused"}


def test_a_hypervisor_that_is_slow_to_ask_is_asked_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """VBoxManage takes a processor for half a second."""
    monkeypatch.setattr(standstill, "EVERY", 0.01)
    asked: list[float] = []

    class Slow:
        def survey(self, _names: object) -> list[object]:
            asked.append(time.monotonic())
            time.sleep(0.05)
            return []

    with standstill.watched(Slow(), ["web"]):  # type: ignore[arg-type]  # all that is asked of it
        time.sleep(1.6)
    assert 1 <= len(asked) <= 2
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(asked))
