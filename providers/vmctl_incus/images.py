"""A box's root file system as an image of the server's: named by its digest, shared by its machines, never written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmctl.driver import CONTAINER, Disk
from vmctl.errors import UsageError, VmctlError
from vmctl.flock import held
from vmctl_incus.api import Api, resource
from vmctl_incus.errors import ServerError

MARK = "vmctl"
"""The property by which vmctl knows the images that it brought."""


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
        raise VmctlError(f"{base.path} cannot be read", details=str(error), hint="vmctl box list") from error
    except ServerError:
        if api.found(resource("images", base.digest)) is None:
            raise  # unless another vmctl, perhaps of another host, brought it meanwhile
    # Afterwards: LXD 5.0 ends itself over properties for an image that has none of its own.
    properties = {MARK: "box", "description": f"vmctl: box {base.digest[:12]}"}
    api.change("PATCH", resource("images", base.digest), {"properties": properties})


def is_ours(image: Any) -> bool:
    """Whether vmctl brought it."""
    return bool((image.get("properties") or {}).get(MARK) == "box" and image.get("fingerprint"))
