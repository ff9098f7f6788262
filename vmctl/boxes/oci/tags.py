"""Tags of boxes: an index of architectures, which several people may change at the same time."""

from __future__ import annotations

from vmctl.boxes.oci import artifact
from vmctl.boxes.oci.artifact import IndexEntry
from vmctl.boxes.oci.reference import LATEST, TAG, Reference
from vmctl.boxes.oci.registry_client import INDEX, Registry
from vmctl.boxes.oci.transport import Absent, RegistryError
from vmctl.boxes.oci.window_layers import Senseless
from vmctl.errors import UsageError

TRIES = 5


def wanted(reference: Reference, version: str) -> tuple[str, ...]:
    """The tags that a pushed box gets.

    Raises:
        UsageError: the version cannot be one.
    """
    if reference.tag:
        return (reference.tag,)
    if not TAG.fullmatch(version):
        raise UsageError(f"the version {version} is not a tag", hint="write oci://REGISTRY/REPOSITORY:TAG")
    return tuple(dict.fromkeys((version, LATEST)))


def entries(registry: Registry, tag: str) -> tuple[IndexEntry, ...]:
    """The architectures that a tag has by now.

    Raises:
        UsageError: it leads to something that is not a box.
    """
    try:
        document = registry.manifest(tag)
    except Absent:
        return ()
    try:
        parsed = artifact.parsed(document.data)
        if artifact.is_box(parsed):
            return artifact.entries(parsed) if artifact.is_index(parsed, document.kind) else ()
    except Senseless:
        pass
    raise UsageError(
        f"the tag {tag} of {registry.transport.reference.repository} is not a box, and is not replaced",
        hint="push to another tag or repository",
    )


def publish(registry: Registry, tag: str, mine: IndexEntry) -> None:
    """Let the tag lead to the box, beside the other architectures' that it has; somebody may do the same right now."""
    for _ in range(TRIES):
        others = [one for one in entries(registry, tag) if one.arch != mine.arch]
        registry.put_manifest(tag, artifact.index_bytes([*others, mine]), INDEX)
        there = entries(registry, tag)
        kept = {one.arch for one in others} <= {one.arch for one in there}
        if kept and any(one.arch == mine.arch for one in there):
            return
    raise RegistryError(f"the tag {tag} keeps being changed by somebody else", hint="push again when they are through")
