"""Where the Vmfile is."""

from __future__ import annotations

import os
from pathlib import Path

from vmctl.errors import UsageError
from vmctl.layout import VMFILE
from vmctl.user_environment import expanded

VARIABLE = "VMCTL_VMFILE"


def find(start: Path) -> Path:
    """The Vmfile that holds for a directory: $VMCTL_VMFILE, else the nearest one in it or above it.

    Raises:
        UsageError: there is none.
    """
    start = start.absolute()
    if configured := os.environ.get(VARIABLE):
        path = start / expanded(configured)
        if not path.is_file():
            raise UsageError(f"there is no file {path} (from ${VARIABLE})", hint=f"unset {VARIABLE}")
        return path
    for directory in (start, *start.parents):
        if (directory / VMFILE).is_file():
            return directory / VMFILE
    raise UsageError(f"there is no {VMFILE} in {start} or above it", hint="vmctl init")
