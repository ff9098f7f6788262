"""The life of a virtiofsd of vmctl's own, with small programs in its place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from vmctl.driver import Observed, State, Tag
from vmctl.errors import VmctlError
from vmctl.flock import is_held
from vmctl.wait import Deadline, until
from vmctl_libvirt import confined_virtiofsd, own_virtiofsd, rootless, share_locks
from vmctl_libvirt.share_locks import LOCK, beside
from vmctl_libvirt.shares import SharedFolder

MACHINE = "shop-web-1"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
WITH_A_CHILD = f"import os; os.fork(); {DEAF}"


def python(script: str) -> Callable[[str], Sequence[str]]:
    return lambda _within: [sys.executable, "-ISc", script]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a socket; nothing serves there when the test ends."""
    monkeypatch.setattr(own_virtiofsd, "PATIENCE", 0.2)
    own_virtiofsd.make_private(share_locks.place(tmp_path))
    found = share_locks.socket_path(tmp_path, MACHINE, "tag")
    yield found
    own_virtiofsd.end(found)


def test_a_machine_has_lost_its_folders_once_nothing_serves_them(path: Path) -> None:
    assert not share_locks.are_lost(path.parent, MACHINE)
    server = own_virtiofsd.start(path, python(DEAF))
    assert not share_locks.are_lost(path.parent, MACHINE)
    os.kill(server, signal.SIGKILL)
    until(lambda: share_locks.are_lost(path.parent, MACHINE), Deadline.after(20), "it to be told")
    assert not share_locks.are_lost(path.parent, "another")
    own_virtiofsd.release(path.parent, MACHINE)
    assert not share_locks.are_lost(path.parent, MACHINE)
    assert list(path.parent.iterdir()) == []
    os.waitpid(server, 0)


def test_one_that_a_user_has_paused_is_told_of_it_once_it_goes_on(path: Path) -> None:
    """A problem of one that is paused would be why the hypervisor stopped it, and so a reason to have it go on."""
    server = own_virtiofsd.start(path, python(DEAF))
    os.kill(server, signal.SIGKILL)
    until(lambda: share_locks.are_lost(path.parent, MACHINE), Deadline.after(20), "it to be told")
    os.waitpid(server, 0)
    running = Observed(state=State.RUNNING, tag=Tag(project="p", machine="web", root="/p", version="1"), run="1")
    assert share_locks.told_of(running, path.parent, MACHINE).problem == share_locks.LOST
    paused = structs.replace(running, state=State.PAUSED)
    assert share_locks.told_of(paused, path.parent, MACHINE) == paused


@pytest.mark.parametrize("script", [DEAF, WITH_A_CHILD])
def test_what_goes_on_without_its_machine_is_ended_with_all_its_processes(path: Path, script: str) -> None:
    server = own_virtiofsd.start(path, python(script))
    until(lambda: own_virtiofsd.log_end(path).startswith("up"), Deadline.after(20), "it to be up")
    own_virtiofsd.end(path)
    assert list(path.parent.iterdir()) == []
    assert os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) == -signal.SIGKILL


def test_what_is_left_over_is_believed_only_where_somebody_holds_it(path: Path) -> None:
    """A lock that names a process which has nothing to do with it, as after a restart of the host."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as other:
        beside(path, LOCK).write_text(str(other.pid))
        path.write_text("a stale socket")
        assert not is_held(beside(path, LOCK))
        own_virtiofsd.end(path)
        assert not path.exists()
        own_virtiofsd._kill(beside(path, LOCK))
        assert other.poll() is None
        other.communicate(b"\n")
        assert other.returncode == 0


def test_a_second_one_is_not_started_beside_the_first(path: Path) -> None:
    server = own_virtiofsd.start(path, python(DEAF))
    with pytest.raises(VmctlError, match="another vmctl's virtiofsd"):
        own_virtiofsd.start(path, python(DEAF))
    own_virtiofsd.end_child(server)


def test_nothing_stays_of_a_vmctl_that_was_killed_before_qemu_started(path: Path) -> None:
    ids = f"{os.getuid()}:{os.getuid()}"
    program = [sys.executable, "-IS", confined_virtiofsd.__file__, ids, ids, "rw", "/bin/false"]
    server = own_virtiofsd.start(path, lambda within: [*program, within.replace("=30,", "=1,")])
    assert path.is_socket()
    os.waitpid(server, 0)
    assert not path.exists()
    assert own_virtiofsd.log_end(path) == "nobody connected"


def start_qemu(path: Path, complaint: str = "") -> None:
    """Have virtiofsd served to a QEMU that starts, or fails with a complaint."""
    with own_virtiofsd.served([SharedFolder(tag="t", host="/src", socket=str(path))]):
        until(lambda: own_virtiofsd.log_end(path) == "up", Deadline.after(20), "it to be up")
        if complaint:
            raise OSError(complaint)


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtiofsd that does nothing."""
    monkeypatch.setattr(rootless, "argv", lambda *_words, **_options: python(DEAF))


@pytest.mark.usefixtures("deaf")
def test_where_qemu_fails_it_is_ended_and_what_it_said_is_told(path: Path) -> None:
    complaint = "qemu: Failed to read msg header. Read 0 instead of 12."
    with pytest.raises(VmctlError, match="virtiofsd could not share /src") as caught:
        start_qemu(path, complaint)
    assert caught.value.details == f"up\n{complaint}"
    assert list(path.parent.iterdir()) == []


@pytest.mark.usefixtures("deaf")
def test_other_failures_are_told_as_they_are(path: Path) -> None:
    with pytest.raises(OSError, match="port is taken"):
        start_qemu(path, "port is taken")
    assert list(path.parent.iterdir()) == []


@pytest.mark.usefixtures("deaf")
def test_a_socket_that_is_there_is_no_obstacle(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    start_qemu(path)
    assert is_held(beside(path, LOCK)), "it goes on"


def test_sockets_are_in_nobody_elses_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(VmctlError, match="yours alone"):
        own_virtiofsd.make_private(tmp_path / "link")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o750)
    with pytest.raises(VmctlError, match="yours alone"):
        own_virtiofsd.make_private(tmp_path / "open")
