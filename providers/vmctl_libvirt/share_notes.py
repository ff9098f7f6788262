"""What vmctl writes into a domain's metadata about shares that it serves itself: libvirt knows their sockets alone."""

from __future__ import annotations

from typing import Any

from vmctl_libvirt import xml_text
from vmctl_libvirt.libvirt_errors import is_code, library
from vmctl_libvirt.shares import SharedFolder

NAMESPACE = "urn:x-vmctl:shares:1"
PREFIX = "vmctlshares"
READ_ONLY = "ro"


def attributes(folder: SharedFolder) -> dict[str, str]:
    """The attributes of a share's element, for the template."""
    return {
        "tag": folder.tag,
        "host": folder.host,
        "socket": folder.socket,
        "uid": str(folder.guest[0]),
        "gid": str(folder.guest[1]),
        "mode": READ_ONLY if folder.read_only else "rw",
    }


def read(domain: Any) -> tuple[SharedFolder, ...]:
    """Those of a domain, as its next start will have them."""
    libvirt = library()
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    except libvirt.libvirtError as error:
        if is_code(error, "VIR_ERR_NO_DOMAIN_METADATA"):
            return ()
        raise
    return parse(text)


def parse(text: str) -> tuple[SharedFolder, ...]:
    """The shares in an element as libvirt returns it."""
    return tuple(
        SharedFolder(
            tag=found.get("tag", ""),
            host=found.get("host", ""),
            socket=found.get("socket", ""),
            guest=(int(found.get("uid", "")), int(found.get("gid", ""))),
            read_only=found.get("mode") == READ_ONLY,
        )
        for found in xml_text.parse(text)
    )
