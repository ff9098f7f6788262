from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vmctl import wait
from vmctl.driver import State
from vmctl.lifecycle import down


class Clock:
    """Time passes only where somebody waits."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Guest:
    """A machine whose guest begins to listen to its power button at some time."""

    name = "web"
    tag: Any = None

    def __init__(self, clock: Clock, listens_at: float) -> None:
        self.clock, self.listens_at, self.pressed = clock, listens_at, list[float]()
        self.machine: Any = SimpleNamespace(state=State.RUNNING, spec=None, domain="shop-web", layout=Path())
        self.driver: Any = self

    def stop(self, _name: str, _tag: object, *, force: bool = False) -> None:
        self.pressed.append(self.clock.now)
        if force or self.clock.now >= self.listens_at:
            self.machine.state = State.STOPPED

    def observe(self) -> None:
        """Nothing: its state is always known."""

    def warn(self, text: str) -> None:
        raise AssertionError(text)


def test_a_button_that_nobody_heard_is_pressed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(wait, "SystemClock", lambda: clock)
    guest = Guest(clock, listens_at=7.0)
    assert down.halt(guest)  # type: ignore[arg-type]  # all that the step needs of a job
    assert guest.machine.state is State.STOPPED
    assert [round(at / down.PRESS_AGAIN) for at in guest.pressed] == [0, 1, 2]
