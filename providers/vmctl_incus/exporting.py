"""A stopped instance's root file system in a file: what the server publishes as an image, taken from it again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vmctl import interrupt
from vmctl.driver import CONTAINER
from vmctl.errors import VmctlError
from vmctl.powers import Exported
from vmctl_incus.api import Api, resource
from vmctl_incus.handle import Handle
from vmctl_incus.images import MARK

EXPORT = "export"
OF = MARK + ".of"
"""The property that names the instance whose root file system an image is."""


def export(api: Api, one: Handle, directory: Path) -> Exported:
    """Write a stopped instance's root file system into ``directory``, as an image for Incus and LXD.

    Raises:
        OSError: the disk is full.
        VmctlError: the server failed.
    """
    sweep(api, one.name)
    properties = {MARK: EXPORT, OF: one.name, "description": f"vmctl: export of {one.mark.name}"}
    body = {"source": {"type": "instance", "name": one.name}, "compression_algorithm": "none", "properties": properties}
    target = directory / f"disk.{CONTAINER}"
    try:
        done = api.change("POST", resource("images"), body | {"public": False})
        fingerprint = str(done["metadata"]["fingerprint"])
        with target.open("wb") as stream:
            api.download(resource("images", fingerprint, EXPORT), stream)
    finally:
        with interrupt.shielded():
            sweep(api, one.name)
    return Exported(disks=(target,), format=CONTAINER, size=one.mark.disk)


def sweep(api: Api, own: str) -> None:
    """Remove what exports of an instance have left on the server."""
    for image in api.get(resource("images"), recursion=1) or ():
        if _is_of(image, own):
            with suppress(VmctlError):  # it goes with the next export, or with the instance
                api.change("DELETE", resource("images", str(image["fingerprint"])))


def _is_of(image: Mapping[str, Any], own: str) -> bool:
    properties = image.get("properties") or {}
    return bool(properties.get(MARK) == EXPORT and properties.get(OF) == own)
