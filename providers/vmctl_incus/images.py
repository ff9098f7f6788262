"""A box's root file system as an image of the server's: named by its digest, shared by its machines, never written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmctl.driver import CONTAINER, Disk
from vmctl.errors import UsageError, VmctlError
from vmctl.flock import held
from vmctl_incus.door import Door, resource
from vmctl_incus.errors import ServerError, is_absent

MARK = "vmctl"
"""The property by which vmctl knows the images that it brought."""


def ensure(door: Door, base: Disk, locks: Path) -> str:
    """Have the box on the server; its fingerprint, which is the digest of the file.

    Raises:
        VmctlError: it could not be read or brought there.
    """
    if base.format != CONTAINER:
        raise UsageError(f"{base.path} is not an image for containers", hint="vmctl box build debian-12")
    path = resource("images", base.digest)
    if door.found(path) is None:
        with held(locks / f"incus-image-{base.digest[:32]}"):
            if door.found(path) is None:
                _remove_unused(door)
                _bring(door, base)
    return base.digest


def _bring(door: Door, base: Disk) -> None:
    said = {"filename": f"{base.digest}.tar", "public": "0", "fingerprint": base.digest}
    headers = {f"X-{product}-{name}": value for product in ("LXD", "Incus") for name, value in said.items()}
    try:
        with base.path.open("rb") as stream:
            door.upload(resource("images"), stream, base.path.stat().st_size, headers)
    except OSError as error:
        raise VmctlError(f"{base.path} cannot be read", details=str(error), hint="vmctl box list") from error
    except ServerError:
        if door.found(resource("images", base.digest)) is None:
            raise  # unless another vmctl, perhaps of another host, brought it meanwhile
    # Afterwards: LXD 5.0 ends itself over properties for an image that has none of its own.
    properties = {MARK: "box", "description": f"vmctl: box {base.digest[:12]}"}
    door.change("PATCH", resource("images", base.digest), {"properties": properties})


def _remove_unused(door: Door) -> None:
    """Remove boxes that no machine was made from; they come again when one is."""
    ours = [image["fingerprint"] for image in door.get(resource("images"), recursion=1) or () if _is_ours(image)]
    if not ours:
        return
    used = {
        (each.get("config") or {}).get("volatile.base_image") for each in door.get(resource("instances"), recursion=1)
    }
    for fingerprint in set(ours) - used:
        try:
            door.change("DELETE", resource("images", fingerprint))
        except ServerError as error:
            if not is_absent(error):
                return  # somebody makes a machine from it right now


def _is_ours(image: Any) -> bool:
    return bool((image.get("properties") or {}).get(MARK) == "box" and image.get("fingerprint"))
