"""A directory that libvirt forgets to make for itself, and how to have it made.

libvirt notes the MAC addresses on each of its networks in a directory that it makes only when it first starts
dnsmasq. Where no network ever needed dnsmasq (vmctl's have static addresses), the first machine on a network fails
to start for want of that directory.
"""

from __future__ import annotations

import re
import secrets
from pathlib import PurePosixPath
from typing import Any

from vmctl import templates
from vmctl_libvirt.libvirt_errors import library

COMPLAINT = re.compile(r"'(/[^']+/dnsmasq)/[^/']+\.macs\.new': No such file or directory")


def state_directory(complaint: str) -> PurePosixPath | None:
    """The directory that an error of libvirt's says is missing; None = the error is about something else."""
    found = COMPLAINT.search(complaint)
    return PurePosixPath(found[1]) if found else None


def make(connection: Any, directory: PurePosixPath) -> None:
    """Have libvirt's daemon make a directory on its own host.

    It runs as root, perhaps far away; the user may be neither. But it makes the directories of storage pools, and a
    pool that is forgotten again at once leaves its directory behind.
    """
    name = f"vmctl-{secrets.token_hex(4)}"
    xml = templates.render("vmctl_libvirt", "pool.xml.j2", name=name, directory=directory)
    pool = connection.storagePoolCreateXML(xml, library().VIR_STORAGE_POOL_CREATE_WITH_BUILD)
    pool.destroy()
