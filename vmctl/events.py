"""What verbs tell while they work. ``vmctl.console`` renders events; nothing else prints.

Every event names the machine it is about ("" = the whole command). Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class Event(Struct, frozen=True, kw_only=True):
    """Base of all events."""

    machine: str = ""


class StepStarted(Event, frozen=True, kw_only=True):
    """A named step began; ``text`` is for people ("waiting for SSH"), ``step`` for programs ("await_ssh")."""

    step: str
    text: str = ""


class Progress(Event, frozen=True, kw_only=True):
    """How far a step is. ``total`` is None where it is not known; ``unit`` is "bytes" or a plural noun."""

    step: str
    done: float
    total: float | None = None
    unit: str = "bytes"


class StepDone(Event, frozen=True, kw_only=True):
    """A step ended well. ``changed`` is False where there was nothing to do."""

    step: str
    seconds: float = 0.0
    changed: bool = True
    text: str = ""


class Output(Event, frozen=True, kw_only=True):
    """One line (no newline) that a program on the host or in the guest printed; ``source`` names the program."""

    line: str
    source: str = ""


class Notice(Event, frozen=True, kw_only=True):
    """Something the user should know, though nothing is wrong."""

    text: str


class Warned(Event, frozen=True, kw_only=True):
    """Something that works now but may surprise later; ``hint`` is a command where there is one."""

    text: str
    hint: str = ""


Report = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Drop an event: the ``Report`` of callers that do not care."""
