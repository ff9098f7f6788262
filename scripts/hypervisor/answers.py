"""Whether a libvirt answers, asked as vmctl asks."""

from __future__ import annotations

import os
from typing import Any

SYSTEM = "qemu:///system"
SESSION = "qemu:///session"


def answers(uri: str, *, autostart: bool = False) -> bool:
    """Whether ``uri`` can be opened for writing; ``autostart`` lets libvirt start the user's own daemon for that."""
    connection = _open(uri, autostart=autostart)
    if connection is None:
        return False
    connection.close()
    return True


def running_machines(uri: str) -> list[str]:
    """Names of the machines that run there; none where nothing answers."""
    connection = _open(uri, autostart=False)
    if connection is None:
        return []
    try:
        return sorted(domain.name() for domain in connection.listAllDomains() if domain.isActive())
    finally:
        connection.close()


def _open(uri: str, *, autostart: bool) -> Any:
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)  # its words on stderr would only confuse here
    os.environ["LIBVIRT_AUTOSTART"] = "1" if autostart else "0"
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError:
        return None
