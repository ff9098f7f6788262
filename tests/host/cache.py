"""What is expensive to make and kept between runs of the tests: each part named by its recipe, and made once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path


def directory() -> Path:
    """Where it lies."""
    return Path(os.environ.get("VMCTL_TEST_CACHE") or Path.home() / ".cache/vmctl-tests")


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The part of that name; ``make`` makes it where it is missing, whole or not at all."""
    path = directory() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make(path)
    return path
