import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vmctl.errors import LockTimeout
from vmctl.events import Event, Notice
from vmctl.store import locks

HOLD = """
import sys, time
from pathlib import Path
from vmctl.store import locks
sys.argv = ["vmctl", "--set", "token=s3cr3t", "up", "web"]
with locks.hold(Path({path!r}), "machine web"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def start_holder(path: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(path=str(path))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_process_waits_and_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    child = start_holder(path)
    events: list[Event] = []

    def report(event: Event) -> None:
        events.append(event)
        child.communicate("\n")

    with locks.hold(path, "machine web", machine="web", report=report):
        pass
    assert len(events) == 1
    assert isinstance(events[0], Notice)
    assert f"locked by `vmctl --set token=… up web` (process {child.pid}" in events[0].text


def test_the_timeout_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    child = start_holder(path)
    message = f"machine web is locked by `vmctl --set token=… up web` \\(process {child.pid}"
    with pytest.raises(LockTimeout, match=message) as caught, locks.hold(path, "machine web", timeout=0):
        pass
    assert caught.value.exit_code == 6
    child.communicate("\n")


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    child = start_holder(path)
    child.kill()
    child.communicate()
    with locks.hold(path, "machine web", timeout=0):
        pass


def test_a_lock_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(3):
        with locks.hold(tmp_path / "lock", "it", timeout=0):
            pass


def test_a_lock_that_its_holder_removes_keeps_others_apart_still(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "lock"
    inside, most, rounds = [0], [0], 15

    def work() -> None:
        for _ in range(rounds):
            with locks.hold(path, "it"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1
                locks.remove(path)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert not path.parent.exists()
