"""Starting instances, on this host and on others."""

from __future__ import annotations

from vmctl_incus import folders, other_hosts
from vmctl_incus.api import Api
from vmctl_incus.errors import ServerError
from vmctl_incus.handle import Handle
from vmctl_incus.instance import location

CANNOT_SHIFT = "idmapping abilities are required"
"""What the server says when a folder's file system cannot be mounted with other owners, whatever its kernel can."""


def start(api: Api, instance: Handle, memory: folders.Memory) -> None:
    """Start one that is off; ``memory`` learns whose folders' file system cannot be mounted with other owners."""
    if not other_hosts.is_local(api, location(instance.found)):
        other_hosts.start(api, instance)
        return
    try:
        instance.act("start")
    except ServerError as error:
        if CANNOT_SHIFT not in error.brief:
            raise
        memory.add(instance.found["devices"])
        instance.put(folders.without_shift)
        instance.act("start")
