"""Consoles of guests whose hypervisor keeps them: fetched into the file where all others are."""

from __future__ import annotations

from pathlib import Path

from vmctl import interrupt
from vmctl.driver import Driver, Tag
from vmctl.errors import VmctlError
from vmctl.powers import Consoles
from vmctl.store import files

KEPT = 1024**2
"""Bytes at the end."""


def fetch(driver: Driver, name: str, tag: Tag, path: Path) -> None:
    """Bring ``path`` up to date, where the hypervisor does not write it; what cannot be fetched is not missed."""
    if not isinstance(driver, Consoles):
        return
    try:
        data = driver.console(name, tag)
    except VmctlError:
        interrupt.check()
        return
    known = files.read(path) if files.exists(path) else b""
    if data:
        files.write(path, (data if data.startswith(known) else known + data)[-KEPT:])
