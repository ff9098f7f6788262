"""Waiting with a deadline: one loop, used by everything that waits for the world to change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from msgspec import Struct, field

from vmctl import interrupt
from vmctl.errors import VmctlError

T = TypeVar("T")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.25
GROWTH = 1.5


class Clock(Protocol):
    """The passage of time; tests pass their own."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""

    def sleep(self, seconds: float) -> None:
        """Let time pass; raises ``Interrupted`` when the user asks to stop."""


class SystemClock:
    """Real time, interruptible."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep; raises ``Interrupted`` when the user asks to stop."""
        interrupt.sleep(seconds)


class Deadline(Struct, frozen=True):
    """A point in time that several waits share."""

    at: float
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    def after(cls, seconds: float, clock: Clock | None = None) -> Deadline:
        """The deadline ``seconds`` from now."""
        clock = clock or SystemClock()
        return cls(clock.monotonic() + seconds, clock)

    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - self.clock.monotonic())

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.left() <= 0


class TimedOut(VmctlError):
    """A wait reached its deadline."""


def pauses() -> Iterator[float]:
    """Back-off: 50 ms growing to 250 ms, so that a fast guest is not kept waiting and a slow one not pestered."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(LONGEST_PAUSE, pause * GROWTH)


def until(probe: Callable[[], T | None], deadline: Deadline, what: str, hint: str = "") -> T:
    """Call ``probe`` until it returns something true, and return that.

    Args:
        probe: looks once, quickly; None or False means "not yet". Its exceptions end the wait.
        deadline: when to give up.
        what: what is awaited, for the error: "SSH to answer on 127.0.0.1:2222".
        hint: a command that helps when it never happens.

    Raises:
        TimedOut: the deadline passed; the probe is tried at least once.
        Interrupted: the user asked to stop.
    """
    for pause in pauses():
        interrupt.check()
        if found := probe():
            return found
        if deadline.passed:
            raise TimedOut(f"timed out waiting for {what}", hint=hint)
        deadline.clock.sleep(min(pause, deadline.left()))
    raise AssertionError  # pauses() never ends
