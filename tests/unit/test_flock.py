import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmctl import flock, interrupt
from vmctl.errors import Interrupted

HOLD = """
import sys
from pathlib import Path
from vmctl import flock
with flock.held(Path({!r})):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_ends_with_its_holder_and_waiting_for_it_can_be_interrupted(
    tmp_path: Path, clean_interrupt: None
) -> None:
    path = tmp_path / "locks" / "box"
    code = HOLD.format(str(path))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert flock.is_held(path)
        interrupt.request()
        with pytest.raises(Interrupted), flock.held(path):
            pass
        interrupt.clear()
        child.kill()
        child.wait()
        assert not flock.is_held(path)
        assert not flock.is_held(tmp_path / "none")
        with flock.held(path):
            assert flock.is_held(path)
            assert path.stat().st_mode & 0o777 == 0o600


def test_several_who_ask_at_once_do_not_take_each_other_for_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    path.touch()
    asking: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", asking.append)  # both go on asking
        assert [flock.is_held(path) for _ in range(2)] == [False, False]
    for descriptor in asking:
        os.close(descriptor)
