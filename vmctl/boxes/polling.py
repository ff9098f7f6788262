"""Reading from a network that may hang, without ever hanging: the reader has a thread, the caller looks at a clock."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from vmctl import interrupt
from vmctl.errors import VmctlError

POLL = 0.1
AHEAD = 8  # pieces that may wait for the caller

T = TypeVar("T")


class Stalled(VmctlError):
    """Nothing came for too long."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: BaseException


Items: TypeAlias = "queue.Queue[bytes | _Failure | None]"
"""What was read, in order; None = that was all."""


def pieces(source: Callable[[], Iterator[bytes]], *, patience: float) -> Iterator[bytes]:
    """What ``source()`` yields, read in a thread of its own.

    The thread is abandoned when the caller stops, so ``source`` must have timeouts of its own.

    Raises:
        Stalled: nothing came for ``patience`` seconds.
        Interrupted: the user asked to stop.
        Exception: whatever ``source`` raised.
    """
    items: Items = queue.Queue(AHEAD)
    stop = threading.Event()
    threading.Thread(target=_pump, args=(source, items, stop), daemon=True).start()
    try:
        while (item := _next(items, patience)) is not None:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()


def abandonable(call: Callable[[], T]) -> T:
    """What ``call()`` returns; it runs in a thread of its own, which is left alone when the user asks to stop.

    Raises:
        Interrupted: the user asked to stop.
        Exception: whatever ``call`` raised.
    """
    answers: queue.Queue[tuple[T] | BaseException] = queue.Queue()

    def run() -> None:
        try:
            answers.put((call(),))
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            answers.put(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        interrupt.check()
        try:
            answer = answers.get(timeout=POLL)
        except queue.Empty:
            continue
        if isinstance(answer, BaseException):
            raise answer
        return answer[0]


def _next(items: Items, patience: float) -> bytes | _Failure | None:
    waited = 0.0
    while True:
        interrupt.check()
        try:
            return items.get(timeout=POLL)
        except queue.Empty:
            waited += POLL
        if waited >= patience:
            raise Stalled(f"nothing came for {patience:g} s")


def _pump(source: Callable[[], Iterator[bytes]], items: Items, stop: threading.Event) -> None:
    try:
        produced = source()
        try:
            for piece in produced:
                _put(items, piece, stop)
                if stop.is_set():
                    return
            _put(items, None, stop)
        finally:  # in this thread: to close what another thread reads from would wait for that
            if isinstance(produced, Generator):
                produced.close()
    except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
        _put(items, _Failure(error), stop)


def _put(items: Items, item: bytes | _Failure | None, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            items.put(item, timeout=POLL)
        except queue.Full:
            continue
        return
