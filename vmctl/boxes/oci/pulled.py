"""What the store remembers of a box that came from a registry."""

from __future__ import annotations

from vmctl.boxes.box import BoxInfo

OCI = "oci"
"""Key of a box's provenance: {"manifest": DIGEST, "pushed": what who pushed it knew, "cloud_init": what they said}."""
PARENT = "parent"
"""Key beside these: the manifest of the box that it stands on."""


def manifest_of(box: BoxInfo) -> str:
    """The digest of the manifest that a box was pulled by; "" = it came otherwise."""
    return _recorded(box, "manifest")


def parent_of(box: BoxInfo) -> str:
    """The digest of the manifest of the box that it was pulled on; "" = it stands alone, or came otherwise."""
    return _recorded(box, PARENT)


def _recorded(box: BoxInfo, key: str) -> str:
    known = box.provenance.get(OCI)
    return str(known.get(key, "")) if isinstance(known, dict) else ""
