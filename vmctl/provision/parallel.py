"""Doing the same with several machines at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vmctl.provision.target import Target

R = TypeVar("R")

AT_ONCE = 16  # connections; each is a thread that mostly waits


def each(targets: Sequence[Target], act: Callable[[Target], R]) -> list[R]:
    """``act`` on every target, side by side; results in the order of the targets.

    Raises:
        The first exception, after all have ended: an interruption ends them all within moments.
    """
    if len(targets) == 1:
        return [act(targets[0])]
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, max(1, len(targets)))) as pool:
        return [future.result() for future in [pool.submit(act, target) for target in targets]]
