"""Images of the server's: root file systems of boxes that vmctl brought, and of instances that it exports.

A box's is named by its digest, shared by its machines and never written. An export's is there while it is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vmctl import interrupt
from vmctl.driver import CONTAINER, Disk
from vmctl.errors import UsageError, VmctlError, in_words
from vmctl.flock import held
from vmctl.powers import Exported
from vmctl_incus.api import Api, resource
from vmctl_incus.handle import Handle
from vmctl_incus.requesting import ServerError

MARK = "vmctl"
"""The property by which vmctl knows its images."""
EXPORT = "export"
OF = MARK + ".of"
"""The property that names the instance whose root file system an image is."""


def ensure(api: Api, base: Disk, locks: Path, make_room: Callable[[], None]) -> str:
    """Have the box on the server; its fingerprint, which is the digest of the file.

    ``make_room`` is called before one is brought.

    Raises:
        VmctlError: it could not be read or brought there.
    """
    if base.format != CONTAINER:
        raise UsageError(f"{base.path} is not an image for containers", hint="vmctl box build debian-12")
    path = resource("images", base.digest)
    if api.found(path) is None:
        with held(locks / f"incus-image-{base.digest[:32]}"):
            if api.found(path) is None:
                make_room()
                _bring(api, base)
    return base.digest


def _bring(api: Api, base: Disk) -> None:
    metadata = {"filename": f"{base.digest}.tar", "public": "0", "fingerprint": base.digest}
    headers = {f"X-{product}-{name}": value for product in ("LXD", "Incus") for name, value in metadata.items()}
    try:
        with base.path.open("rb") as stream:
            api.upload(resource("images"), stream, base.path.stat().st_size, headers)
    except OSError as error:
        raise VmctlError(f"{base.path} cannot be read", details=in_words(error), hint="vmctl box list") from error
    except ServerError:
        if api.found(resource("images", base.digest)) is None:
            raise  # unless another vmctl, perhaps of another host, brought it meanwhile
    # Afterwards: LXD 5.0 ends itself over properties for an image that has none of its own.
    properties = {MARK: "box", "description": f"vmctl: box {base.digest[:12]}"}
    api.change("PATCH", resource("images", base.digest), {"properties": properties})


def is_ours(image: Any) -> bool:
    """Whether vmctl brought it."""
    return bool((image.get("properties") or {}).get(MARK) == "box" and image.get("fingerprint"))


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
