"""The layers of a box's manifest: its disks in windows, whole ones, and what a box changed of those of its parent.

A window of a child is a stack: the parent's layers of it, which the child's manifest names again (so the box is whole
wherever it is copied to), and on top what differs (``delta``). Whoever has the parent in the store begins there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from vmctl.boxes import streams
from vmctl.boxes.image import LARGEST
from vmctl.boxes.oci.qcow2_layout import CLUSTER, Layout
from vmctl.boxes.oci.reference import DIGEST
from vmctl.boxes.oci.registry_client import Blob

if TYPE_CHECKING:
    from vmctl.boxes.oci.artifact import DiskInfo

WINDOW = "application/vnd.vmctl.disk.window.v1+zstd"
DELTA = "application/vnd.vmctl.disk.delta.v1+zstd"
DISK_KEY, WINDOW_KEY, CLUSTERS_KEY = "vmctl.disk", "vmctl.window", "vmctl.clusters"
CONTENT_KEY, INHERITED_KEY = "vmctl.content", "vmctl.inherited"
DEEPEST = 8
"""Layers of a window; one that is changed more often travels whole again."""
NUMBER = re.compile(r"[0-9]{1,12}")


class Senseless(Exception):
    """A document of a registry is damaged or hostile; a caller that knows whose it is turns this into its error."""


class Place(Struct, frozen=True, kw_only=True):
    """Where a blob belongs."""

    disk: int
    window: int
    clusters: int
    """How many clusters of the window are not zero, once this layer is in it."""


class WindowLayer(Struct, frozen=True, kw_only=True):
    """One window, or what changed in it: its blob and its place."""

    blob: Blob
    place: Place
    content: str = ""
    """Digest of the whole window, unpacked, once this layer is in it; "" = not told."""
    delta: bool = False
    """Whether it changes what the layers before it made of the window."""
    inherited: bool = False
    """Whether the parent has it, too."""


Stacks = Mapping[tuple[int, int], tuple[WindowLayer, ...]]
"""By disk and window: its layers, the lowest first."""


def described(layer: WindowLayer) -> dict[str, Any]:
    """As the manifest says it."""
    place = layer.place
    notes = {DISK_KEY: str(place.disk), WINDOW_KEY: str(place.window), CLUSTERS_KEY: str(place.clusters)}
    notes |= {CONTENT_KEY: layer.content} if layer.content else {}
    notes |= {INHERITED_KEY: "1"} if layer.inherited else {}
    kind = DELTA if layer.delta else WINDOW
    return {"mediaType": kind, "digest": layer.blob.digest, "size": layer.blob.size, "annotations": notes}


def blob(entry: Any) -> Blob:
    """What a descriptor says.

    Raises:
        Senseless: it is damaged.
    """
    fields = entry if isinstance(entry, dict) else {}
    digest, size = fields.get("digest"), fields.get("size")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise Senseless(f"{str(digest)[:100]!r} is not a SHA-256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= LARGEST:
        raise Senseless(f"{str(size)[:100]!r} is not the size of a blob")
    return Blob(digest=digest, size=size)


def read(entry: Any) -> WindowLayer:
    """One of ours.

    Raises:
        Senseless: it is damaged, or of a kind that this vmctl does not know.
    """
    found = blob(entry)
    kind = entry.get("mediaType")
    if kind not in (WINDOW, DELTA):
        raise Senseless(f"a layer is a {str(kind)[:100]!r}, which this vmctl does not know")
    annotations = entry.get("annotations")
    notes: Mapping[str, Any] = annotations if isinstance(annotations, dict) else {}
    numbers = [notes.get(key) for key in (DISK_KEY, WINDOW_KEY, CLUSTERS_KEY)]
    if not all(isinstance(one, str) and NUMBER.fullmatch(one) for one in numbers):
        raise Senseless("a layer does not say where it belongs")
    content = notes.get(CONTENT_KEY, "")
    if not isinstance(content, str) or not (content == "" or DIGEST.fullmatch(content)):
        raise Senseless(f"{str(content)[:100]!r} is not the digest of a window")
    disk, window, clusters = (int(str(one)) for one in numbers)
    place = Place(disk=disk, window=window, clusters=clusters)
    return WindowLayer(blob=found, place=place, content=content, delta=kind == DELTA, inherited=INHERITED_KEY in notes)


def stacked(layers: Iterable[WindowLayer]) -> Stacks:
    """The layers of each window.

    Raises:
        Senseless: they do not make one.
    """
    found: dict[tuple[int, int], tuple[WindowLayer, ...]] = {}
    for one in layers:
        at = (one.place.disk, one.place.window)
        found[at] = (*found.get(at, ()), one)
    for stack in found.values():
        if any(not one.delta for one in stack[1:]):
            raise Senseless("two of its layers are for the same window")
        if stack[0].delta or len(stack) > DEEPEST:
            raise Senseless("a layer changes a window that is not there, or was changed too often")
        if any(above.inherited > below.inherited for below, above in pairwise(stack)):
            raise Senseless("its own layers lie below its parent's")
    return found


def layouts(disks: Sequence[DiskInfo], layers: Sequence[WindowLayer]) -> list[Layout]:
    """Where everything of each disk lies.

    Raises:
        Senseless: a layer belongs nowhere, or all of them unpack to more than any disk's worth.
    """
    made = []
    for number, disk in enumerate(disks):
        places = [one.place for one in layers if one.place.disk == number]
        clusters = {place.window: place.clusters for place in places}
        layout = Layout(size=disk.virtual_size, window=disk.window, clusters=clusters)
        for place in places:
            most = -(-layout.length(place.window) // CLUSTER)
            if place.window >= layout.windows or not 0 < place.clusters <= most:
                raise Senseless(f"its window {place.window} of disk {number} is invalid")
        made.append(layout)
    if any(one.place.disk >= len(made) for one in layers):
        raise Senseless("a layer belongs to a disk that does not exist")
    if sum(one.length(window) for one in made for window in one.clusters) > streams.LARGEST:
        raise Senseless("it unpacks to more than any disk's worth")
    for one in layers:
        if one.blob.size > made[one.place.disk].length(one.place.window) * 1.01 + 1024:
            raise Senseless("a layer is larger than what it unpacks to")
    return made
