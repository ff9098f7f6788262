"""The door to VBoxManage against a program that misbehaves as the real one does, on a clock that stands still."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.unit.virtualbox_transcripts import (
    LOCKED,
    NO_SERVER,
    NOT_FOUND,
    NOT_READY,
    PROGRESS_FAILURE,
    VANISHED,
    VERSION_WITHOUT_DRIVER,
)
from vmctl import interrupt
from vmctl.errors import Interrupted
from vmctl.process import CommandFailed, ProgramMissing
from vmctl.wait import Deadline, until
from vmctl_virtualbox import checks, networks
from vmctl_virtualbox.vboxmanage import NotFound, VBoxManage, VBoxManageFailed

PROGRAM = """#!{python} -I
import json, os, pathlib, sys, time
place = pathlib.Path({place!r})
calls = place / "calls"
with calls.open("a") as log:
    log.write(json.dumps([sys.argv[1:], dict(os.environ)]) + "\\n")
answers = json.loads((place / "answers.json").read_text())
status, out, err, seconds = answers[min(len(calls.read_text().splitlines()), len(answers)) - 1]
sys.stdout.write(out)
sys.stderr.write(err)
sys.stdout.flush()
time.sleep(seconds)
sys.exit(status)
"""
Answer = tuple[int, str, str, float]


@dataclass
class StoppedClock:
    """Time that passes only by sleeping."""

    now: float = 0.0
    naps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@dataclass
class Pretender:
    """A VBoxManage on PATH that gives the answers it was told, the last one for ever."""

    place: Path

    def answers(self, *answers: Answer) -> None:
        (self.place / "answers.json").write_text(json.dumps(answers))

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line)[0] for line in (self.place / "calls").read_text().splitlines()]

    @property
    def calls_so_far(self) -> list[list[str]]:
        return self.calls if (self.place / "calls").exists() else []

    @property
    def environment(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.place / "calls").read_text().splitlines()[-1])[1]
        return found


@pytest.fixture
def pretender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretender:
    program = tmp_path / "VBoxManage"
    program.write_text(PROGRAM.format(python=sys.executable, place=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Pretender(tmp_path)


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def door(clock: StoppedClock) -> VBoxManage:
    return VBoxManage(clock=clock)


def test_an_answer_comes_back_and_words_arrive_as_they_are(pretender: Pretender, door: VBoxManage) -> None:
    pretender.answers((0, "fine ü\n", "0%...100%\nWarning: --audio is deprecated\n", 0))
    assert door("modifyvm", "a b", '"q" ü;$(x)') == "fine ü\n"
    assert pretender.calls == [["modifyvm", "a b", '"q" ü;$(x)']]
    assert pretender.environment["LANG"] == "C"
    assert pretender.environment["LC_ALL"] == "C.UTF-8"


@pytest.mark.parametrize("status", [0, 1])
def test_an_error_on_stderr_is_a_failure_whatever_the_status(
    pretender: Pretender, door: VBoxManage, status: int
) -> None:
    pretender.answers((status, "", PROGRESS_FAILURE, 0))
    with pytest.raises(VBoxManageFailed) as caught:
        door("hostonlyif", "create")
    assert caught.value.brief == "VirtualBox: Failed to create the host-only adapter"
    assert caught.value.code == "NS_ERROR_FAILURE"
    assert "$ " in caught.value.details
    assert not isinstance(caught.value, NotFound)


def test_a_listing_is_good_though_one_machine_can_not_be_read(pretender: Pretender, door: VBoxManage) -> None:
    pretender.answers((0, '"a" {x}\n', PROGRESS_FAILURE, 0))
    assert door("list", "vms", partial=True) == '"a" {x}\n'
    pretender.answers((1, '"a" {x}\n', PROGRESS_FAILURE, 0))
    with pytest.raises(VBoxManageFailed):
        door("list", "vms", partial=True)


def test_a_status_without_words_is_a_failure(pretender: Pretender, door: VBoxManage) -> None:
    pretender.answers((3, "", "", 0))
    with pytest.raises(VBoxManageFailed, match="status 3"):
        door("list", "vms")


def test_a_broken_start_of_the_program_is_a_failure(pretender: Pretender, door: VBoxManage) -> None:
    pretender.answers((0, "", "VBoxManage: fatal error: RTR3Init: VERR_NO_TRANSLATION\n", 0))
    with pytest.raises(VBoxManageFailed, match="VERR_NO_TRANSLATION"):
        door("list", "vms")


def test_a_medium_that_went_meanwhile_is_absent(pretender: Pretender, door: VBoxManage) -> None:
    gone = "VBoxManage: error: The given path '1d5cbe80-37e9-4f1e-a4d7-2e1980604c1e' is not fully qualified\n"
    pretender.answers((1, "", gone + "VBoxManage: error: Details: code VBOX_E_FILE_ERROR (0x80bb0004)\n", 0))
    with pytest.raises(NotFound):
        door("closemedium", "disk", "1d5cbe80-37e9-4f1e-a4d7-2e1980604c1e")
    pretender.answers((1, "", gone.replace("1d5cbe80", "some disk"), 0))
    with pytest.raises(VBoxManageFailed) as caught:
        door("closemedium", "disk", "some disk")
    assert not isinstance(caught.value, NotFound)


def test_only_virtualbox_own_code_means_absent(pretender: Pretender, door: VBoxManage) -> None:
    pretender.answers((1, "", NOT_FOUND, 0))
    with pytest.raises(NotFound):
        door("showvminfo", "x")
    pretender.answers((1, "", "VBoxManage: error: Could not find a registered machine named 'x'\n", 0))
    with pytest.raises(VBoxManageFailed) as caught:
        door("showvminfo", "x")
    assert not isinstance(caught.value, NotFound)


@pytest.mark.parametrize("busy", [LOCKED, NOT_READY, NO_SERVER, VANISHED])
def test_busy_is_asked_again_until_it_is_not(
    pretender: Pretender, door: VBoxManage, clock: StoppedClock, busy: str
) -> None:
    pretender.answers(*[(1, "", busy, 0.0)] * 3, (0, "done\n", "", 0.0))
    assert door("startvm", "x") == "done\n"
    assert len(pretender.calls) == 4
    assert len(clock.naps) == 3


def test_busy_for_too_long_is_a_failure(pretender: Pretender, door: VBoxManage, clock: StoppedClock) -> None:
    door.patience = 1.0
    pretender.answers((1, "", LOCKED, 0))
    with pytest.raises(VBoxManageFailed, match="already locked by a session"):
        door("startvm", "x")
    assert 1.0 <= clock.now < 1.5


def test_no_other_failure_is_asked_again(pretender: Pretender, door: VBoxManage, clock: StoppedClock) -> None:
    pretender.answers((1, "", PROGRESS_FAILURE, 0), (0, "", "", 0))
    with pytest.raises(VBoxManageFailed):
        door("hostonlyif", "create")
    assert clock.naps == []


def test_a_call_that_hangs_is_ended(pretender: Pretender, door: VBoxManage) -> None:
    pretender.answers((0, "", "", 60))
    with pytest.raises(CommandFailed, match="did not end"):
        door("list", "vms", deadline=0.2)


def test_without_virtualbox_the_hint_installs_it(door: VBoxManage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProgramMissing) as caught:
        door("list", "vms")
    assert "apt-get install virtualbox" in caught.value.hint
    assert "not installed" in checks.unusable(door, forced=False)


@pytest.mark.parametrize(
    ("answer", "forced", "says"),
    [
        ("7.2.22_Debianr175245\n", True, ""),
        ("9.1.0r1\n", True, ""),
        ("6.0.24r1\n", True, "too old"),
        (VERSION_WITHOUT_DRIVER, False, "sudo modprobe vboxdrv"),
        (VERSION_WITHOUT_DRIVER, True, ""),
        ("what?\n", False, "no version"),
    ],
)
def test_whether_virtualbox_can_be_used(
    pretender: Pretender, door: VBoxManage, answer: str, says: str, *, forced: bool
) -> None:
    pretender.answers((0, answer, "", 0))
    problem = checks.unusable(door, forced=forced)
    assert says in problem
    assert bool(problem) == bool(says)


def test_an_interrupted_network_is_taken_back(pretender: Pretender, door: VBoxManage, clean_interrupt: None) -> None:
    pretender.answers(
        (0, "", "", 0), (0, "Interface 'vboxnet7' was successfully created\n", "", 0), (0, "", "", 60), (0, "", "", 0)
    )

    def interrupt_when_asked() -> None:
        until(lambda: len(pretender.calls_so_far) == 3, Deadline.after(20), "the third call")
        interrupt.request()

    with ThreadPoolExecutor() as pool:
        pool.submit(interrupt_when_asked)
        with pytest.raises(Interrupted):
            networks._hostonly_interface(door, ipaddress.IPv4Network("192.168.56.0/24"))
    assert pretender.calls[-1] == ["hostonlyif", "remove", "vboxnet7"]


def test_a_network_that_can_not_be_set_up_is_told_though_taking_it_back_fails_too(
    pretender: Pretender, door: VBoxManage
) -> None:
    pretender.answers(
        (0, "", "", 0),
        (0, "Interface 'vboxnet7' was successfully created\n", "", 0),
        (1, "", "VBoxManage: error: no such address\n", 0),
        (1, "", "VBoxManage: error: it cannot be removed\n", 0),
    )
    with pytest.raises(VBoxManageFailed, match="no such address"):
        networks._hostonly_interface(door, ipaddress.IPv4Network("192.168.56.0/24"))
    assert pretender.calls[-1] == ["hostonlyif", "remove", "vboxnet7"]
