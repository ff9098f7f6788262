from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.provision_bench import Bench
from tests.unit.openssh_server import Sshd, sshd
from vmctl.provision import settings
from vmctl.spec import Ansible
from vmctl.wait import Deadline, until

__all__ = ["sshd"]

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).with_name("interrupted_run.py")
ROOT = Path(__file__).parents[2]
LONG = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: sit
      shell: "touch {place}/begun; while test -e {place}/begun; do sleep 0.2; done"
      become: false
"""


@pytest.fixture
def bench(tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("ANSIBLE_PYTHON_INTERPRETER", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield Bench(tmp_path, sshd)
    (tmp_path / "begun").unlink(missing_ok=True)  # the task in the guest goes on until then


def playbook(bench: Bench, tmp_path: Path, **options: str) -> Ansible:
    """A playbook that sits in a task, with secrets."""
    return bench.playbook(
        LONG.format(place=tmp_path),
        extra_vars={"secret": "correct-horse"},
        env={"TOKEN": "correct-horse"},
        **options,
    )


def begin(bench: Bench, tmp_path: Path, **options: str) -> subprocess.Popen[bytes]:
    """Start the program, and wait until its playbook sits in a task."""
    target = bench.machine("one", playbook(bench, tmp_path, **options))
    parts = tmp_path / "parts"
    parts.write_bytes(pickle.dumps((bench.host_set(), target, bench.layout)))
    child = subprocess.Popen([sys.executable, PROGRAM, parts], start_new_session=True)
    until((tmp_path / "begun").exists, Deadline.after(60), "the task to start")
    return child


def of_the_run(tmp_path: Path) -> list[str]:
    """Command lines of processes that a run here has started on the host."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"VMCTL_RUN=" in (entry / "environ").read_bytes():
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found += [command] if str(tmp_path) in command else []
        except OSError:
            continue
    return found


def mentioning(text: str) -> list[str]:
    """Command lines, of anybody's processes, with this text."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [command for command in found if text in command]


def of_session(leader: int) -> list[int]:
    """Processes of a session, which is all that the program has started on the host, unless that has left it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(entry.name)) == leader:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_time_and_leaves_nothing(bench: Bench, tmp_path: Path, number: signal.Signals) -> None:
    child = begin(bench, tmp_path)
    assert any("ansible-playbook" in command for command in of_the_run(tmp_path))
    assert any(command.startswith("ssh ") for command in of_the_run(tmp_path))
    started = time.monotonic()
    child.send_signal(number)
    assert child.wait(10) == 128 + number
    assert time.monotonic() - started < 3
    assert of_the_run(tmp_path) == []
    assert bench.leftovers == []
    assert bench.needs("one") == ["site"]


def test_a_run_inside_the_guest_is_ended_there_and_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    child = begin(bench, tmp_path, mode="guest", playbook_command=settings.program("ansible-playbook"))
    assert bench.server.left
    child.send_signal(signal.SIGINT)
    assert child.wait(10) == 128 + signal.SIGINT
    assert of_session(child.pid) == []
    assert of_the_run(tmp_path) == []
    until(lambda: not mentioning(f"{tmp_path}/begun"), Deadline.after(10), "the end of the task in the guest")
    assert not bench.server.left
    assert bench.leftovers == []
    assert bench.needs("one") == ["site"]


def test_what_a_killed_vmctl_has_left_is_removed_by_the_next(bench: Bench, tmp_path: Path) -> None:
    child = begin(bench, tmp_path)
    child.kill()
    child.wait()
    assert bench.leftovers
    assert [path for path in bench.leftovers if path.is_file() and b"correct-horse" in path.read_bytes()] == []
    for path in bench.leftovers:
        assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0
    bench.machine("one", bench.playbook("- hosts: all\n  gather_facts: false\n  tasks: [{command: 'true'}]\n"))
    bench.run()
    assert of_the_run(tmp_path) == []
    assert bench.leftovers == []
