"""The one flag that says "stop": set by SIGINT and SIGTERM, read by every wait and every subprocess.

Python runs signal handlers in the main thread only, so raising from a handler would leave the worker threads
running. Instead the handler sets a flag; ``vmctl.wait`` and ``vmctl.process`` look at it several times a second
and raise ``Interrupted`` in whichever thread they run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from vmctl.errors import Interrupted

FORCED_EXIT = 128

_event = threading.Event()
_signal = signal.SIGINT
_shield = threading.local()


def install() -> None:
    """Catch SIGINT and SIGTERM (main thread only). A second signal ends the process at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _handle)


def _handle(number: int, _frame: FrameType | None) -> None:
    if _event.is_set():
        os._exit(FORCED_EXIT + number)
    request(signal.Signals(number))


def request(number: signal.Signals = signal.SIGINT) -> None:
    """Ask everything to stop, as the signal ``number`` would."""
    global _signal  # noqa: PLW0603  one process, one flag
    _signal = number
    _event.set()


def clear() -> None:
    """Forget a request (tests, and the clean-up that follows an interruption)."""
    _event.clear()


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Do not notice requests in this thread, for the length of the block: it undoes or records what was begun.

    Keep it short: an interrupted vmctl has to end within seconds.
    """
    _shield.depth = getattr(_shield, "depth", 0) + 1
    try:
        yield
    finally:
        _shield.depth -= 1


def requested() -> bool:
    """Whether somebody asked to stop (never inside ``shielded``)."""
    return _event.is_set() and not getattr(_shield, "depth", 0)


def check() -> None:
    """Raise ``Interrupted`` when somebody asked to stop."""
    if requested():
        raise error()


def error() -> Interrupted:
    """The error for the signal that came."""
    return Interrupted(_signal)


def sleep(seconds: float) -> None:
    """Sleep, but wake and raise ``Interrupted`` as soon as somebody asks to stop."""
    if getattr(_shield, "depth", 0):
        time.sleep(seconds)
        return
    _event.wait(seconds)
    check()
