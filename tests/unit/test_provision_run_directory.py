from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vmctl.layout import ProjectLayout
from vmctl.provision import run_directory


@pytest.fixture
def layout(tmp_path: Path) -> ProjectLayout:
    return ProjectLayout(tmp_path / "state", tmp_path / ".vmctl")


def directories(layout: ProjectLayout) -> list[str]:
    return [path.name for path in layout.runner.iterdir() if path.is_dir()]


def test_nothing_stays_even_when_it_goes_wrong(layout: ProjectLayout) -> None:
    opened = run_directory.opened(layout)
    run_files = opened.__enter__()
    assert run_files.root.stat().st_mode & 0o777 == 0o700
    assert run_files.sockets.stat().st_mode & 0o777 == 0o700
    (run_files.directory("1") / "secret").touch()
    assert opened.__exit__(RuntimeError, RuntimeError(), None) is not True
    assert directories(layout) == []
    assert not run_files.sockets.exists()


def test_sockets_fit_into_an_address(layout: ProjectLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with run_directory.opened(layout) as run_files:
        assert len(str(run_files.sockets)) + 1 + run_directory.SOCKET_NAME <= run_directory.LONGEST_SOCKET


def test_one_at_work_is_left_alone_and_a_dead_ones_is_removed(layout: ProjectLayout) -> None:
    with run_directory.opened(layout) as first:
        (layout.runner / "dead").mkdir()
        with run_directory.opened(layout) as second:
            assert sorted(directories(layout)) == sorted([first.run, second.run])


def test_processes_of_a_run_are_ended_wherever_they_have_gone() -> None:
    script = "import os, time; os.fork(); os.setsid() if os.fork() == 0 else None; print(flush=True); time.sleep(100)"
    environment = {run_directory.VARIABLE: "test-of-leftovers"}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(4):
            child.stdout.readline()
        assert len(run_directory.processes("test-of-leftovers")) == 4
        run_directory.end_processes("test-of-leftovers")
    assert run_directory.processes("test-of-leftovers") == []


def test_ending_what_has_ended_is_nothing() -> None:
    run_directory.end_processes("no-such-run")
