"""The box that another one stands on: of which only the differences travel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct, structs

from vmctl.boxes.box import BASE, Box, manifest_of, parent_of
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.oci import artifact
from vmctl.boxes.oci.artifact import Manifest
from vmctl.boxes.oci.reference import DIGEST
from vmctl.boxes.oci.registry_client import Document, Registry
from vmctl.boxes.oci.transport import Absent
from vmctl.boxes.oci.window_layers import DEEPEST, Senseless, Stacks, WindowLayer, stacked
from vmctl.boxes.oci.windows import DiskSource
from vmctl.driver import CONTAINER


class Parent(Struct, frozen=True, kw_only=True):
    """A box whose manifest and layers are in the repository."""

    box: Box
    digest: str
    """Of the manifest."""
    stacks: Stacks
    sources: tuple[DiskSource, ...]

    def below(self, source: DiskSource, disk: int, number: int, window: int) -> tuple[WindowLayer, ...]:
        """The layers that a window of a child's disk can stand on; none where it must travel whole.

        Args:
            source: of this box, like the child's disk (``alike``).
            disk: the number of the child's disk.
            number: of the window.
            window: how long the child's are.
        """
        mine = [one.path for one in self.sources].index(source.path)
        stack = self.stacks.get((mine, number), ())
        if source.window != window or len(stack) >= DEEPEST:
            return ()
        places = (structs.replace(one.place, disk=disk) for one in stack)
        return tuple(
            structs.replace(one, place=place, inherited=True) for one, place in zip(stack, places, strict=True)
        )


def sources(box: Box) -> tuple[DiskSource, ...]:
    """All that travels of a box: its disks, and the same system in other formats, byte by byte."""
    travelling = (
        structs.replace(one, virtual_size=one.size) if one.format == CONTAINER else one
        for one in (*box.images, *box.forms)
    )
    return tuple(DiskSource(box.directory / one.image_name, one) for one in travelling)


def forms(box: Box) -> list[str]:
    """What each of ``sources`` is: a disk (""), or the system in another format."""
    return [one.format if one.format == CONTAINER else "" for one in (*box.images, *box.forms)]


def alike(box: Box, wanted: Sequence[str]) -> tuple[DiskSource | None, ...]:
    """For each part of a child (what ``forms`` says of it), the part of its parent that is most like it."""
    left = list(zip(forms(box), sources(box), strict=True))
    found: list[DiskSource | None] = []
    for form in wanted:
        index = next((at for at, (one, _) in enumerate(left) if one == form), None)
        found.append(None if index is None else left.pop(index)[1])
    return tuple(found)


def box_of(box: Box, store: BoxStore) -> Box | None:
    """The box in the store that a machine was made of, which this one was packaged from; or that it was pulled on."""
    base = box.provenance.get(BASE)
    if manifest := parent_of(box):
        found = _by_manifest(store, manifest)
    else:
        found = store.by_digest(base) if isinstance(base, str) else None
    return found if found and found.digest != box.digest and found.arch == box.arch else None


def local(found: Manifest, store: BoxStore) -> Box | None:
    """The parent of a box of a registry, in the store."""
    if not found.parent:
        return None
    return _by_manifest(store, found.parent) or store.by_digest(found.base)


def known(box: Box, registry: Registry) -> Parent | None:
    """The box as a parent, where the repository has its manifest already."""
    for digest in dict.fromkeys(_manifests(box)):
        try:
            return _read(box, registry.manifest(digest), registry)
        except (Absent, Senseless):
            continue
    return None


def of(box: Box, digest: str, layers: Sequence[WindowLayer]) -> Parent:
    """The box as a parent, that was just pushed."""
    return Parent(box=box, digest=digest, stacks=stacked(layers), sources=sources(box))


def _read(box: Box, document: Document, registry: Registry) -> Parent:
    parsed = artifact.manifest(artifact.parsed(document.data))
    config = artifact.config(registry.read(parsed.config, artifact.LONGEST_CONFIG, "the config"))
    mine = sources(box)
    if [(one.virtual_size, one.window) for one in config.disks] != [(one.size, one.window) for one in mine]:
        raise Senseless("it was pushed in other windows")
    return Parent(box=box, digest=document.digest, stacks=parsed.stacks, sources=mine)


def _by_manifest(store: BoxStore, digest: str) -> Box | None:
    return next((box for box in store.boxes() if digest in _manifests(box)), None)


def _manifests(box: Box) -> Iterator[str]:
    """The manifests by which the box was pulled or pushed."""
    known = (manifest_of(box), *box.provenance.get("stamps", {}).values())
    return (one for one in known if DIGEST.fullmatch(one))
