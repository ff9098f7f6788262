from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from vmctl import interrupt
from vmctl.errors import Interrupted, Unreachable
from vmctl.events import Event, Notice, Warned
from vmctl.folders import watch
from vmctl.folders.watch import concerns
from vmctl.spec import Folder


@pytest.mark.parametrize(
    ("pattern", "path", "sent"),
    [
        ("*.log", "a.log", False),
        ("*.log", "deep/er/a.log", False),
        ("*.log", "a.logs", True),
        ("/build/", "build/out/x", False),
        ("/build/", "sub/build/x", True),
        ("node_modules/", "a/node_modules/b", False),
        ("node_modules", "node_modules", False),
        ("a/b", "x/a/b/c", False),
        ("/a/b", "x/a/b", True),
        ("**/x", "a/x", True),
        ("+ keep", "keep", True),
        ("/", "a", True),
    ],
)
def test_excluded_paths_wake_nobody(tmp_path: Path, pattern: str, path: str, *, sent: bool) -> None:
    folder = Folder(host=tmp_path, guest="/project", exclude=(pattern,))
    assert concerns(folder, tmp_path / path) is sent


def test_vmctls_own_files_and_foreign_paths_wake_nobody(tmp_path: Path) -> None:
    folder = Folder(host=tmp_path / "a", guest="/project")
    assert not concerns(folder, tmp_path / "a" / ".vmctl" / "journal")
    assert not concerns(folder, tmp_path / "b")


@pytest.mark.usefixtures("clean_interrupt")
def test_changes_are_copied_until_interrupted_even_if_the_guest_is_away_for_a_while(tmp_path: Path) -> None:
    host = tmp_path.resolve()
    calls: list[float] = []
    events: list[Event] = []
    watching = threading.Event()

    def copy() -> None:
        calls.append(time.monotonic())
        if len(calls) < 3:
            raise Unreachable("web: rsync lost the guest")
        interrupt.request()

    def report(event: Event) -> None:
        events.append(event)
        watching.set()

    def edit() -> None:
        watching.wait(10)
        while not interrupt.requested():  # the watch begins a moment after it is told
            (host / "file").write_text(str(time.monotonic()))
            threading.Event().wait(0.05)

    editor = threading.Thread(target=edit)
    editor.start()
    with pytest.raises(Interrupted):
        watch("web", [Folder(host=host, guest="/project")], copy, report)
    editor.join()
    assert len(calls) == 3
    assert [type(event) for event in events] == [Notice, Warned]
