"""Work that is killed in the middle, at every step that changes files."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable


def killed_at(step: int, work: Callable[[], object], calls: Iterable[str]) -> int:
    """Do the work in a child that is killed at the ``step``-th of these calls of ``os``; its wait status.

    0 = it came to its end before that; a fork takes a hundredth of the time of another Python.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = step

    def traced(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in calls:
        setattr(os, name, traced(getattr(os, name)))
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)
