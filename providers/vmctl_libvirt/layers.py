"""What vmctl writes into a domain's metadata about its snapshots: their volumes, and how they build on each other.

Pure data; ``snapshots`` acts on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree import ElementTree as ET

from msgspec import Struct, structs

from vmctl_libvirt import xml_text
from vmctl_libvirt.libvirt_errors import is_code, library

NAMESPACE = "urn:x-vmctl:snapshots:1"
PREFIX = "vmctlsnap"
YES = "yes"


class Layer(Struct, frozen=True, kw_only=True):
    """One snapshot."""

    id: str
    """8 hex digits; its memory is in a volume named by it."""
    name: str
    parent: str
    date: float
    memory: bool
    disks: tuple[str, ...]
    """Paths of the volumes that hold the disks as they were, the root disk first; nothing writes to them any more."""
    note: str = ""


class Tree(Struct, frozen=True):
    """All snapshots of one machine, parents first."""

    layers: tuple[Layer, ...] = ()
    current: str = ""
    """Name of the one that the machine's disks build on; "" = none."""

    def find(self, name: str) -> Layer | None:
        """The snapshot of that name."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def with_layer(self, layer: Layer) -> Tree:
        """Also this snapshot of the present state, in place of one of the same name."""
        rest = self.without(layer.name)
        return Tree((*rest.layers, structs.replace(layer, parent=rest.current)), current=layer.name)

    def without(self, name: str) -> Tree:
        """Not that snapshot; what builds on it builds on its parent then."""
        gone = self.find(name)
        if gone is None:
            return self
        kept = (layer for layer in self.layers if layer.name != name)
        moved = (structs.replace(layer, parent=gone.parent) if layer.parent == name else layer for layer in kept)
        return Tree(tuple(moved), current=gone.parent if self.current == name else self.current)

    def moved(self, old: str, new: str) -> Tree:
        """What was in the volume ``old`` is in ``new``."""
        layers = (structs.replace(layer, disks=replaced(layer.disks, old, new)) for layer in self.layers)
        return structs.replace(self, layers=tuple(layers))

    def volumes(self) -> frozenset[str]:
        """Paths of the volumes that the snapshots hold."""
        return frozenset(path for layer in self.layers for path in layer.disks)


def replaced(paths: Iterable[str], old: str, new: str) -> tuple[str, ...]:
    """The paths, with ``new`` in place of ``old``."""
    return tuple(new if path == old else path for path in paths)


def read(domain: Any) -> Tree:
    """The snapshots of a domain, as its next start will know them."""
    libvirt = library()
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    except libvirt.libvirtError as error:
        if is_code(error, "VIR_ERR_NO_DOMAIN_METADATA"):
            return Tree()
        raise
    return parse(text)


def write(domain: Any, tree: Tree) -> None:
    """Have a domain remember its snapshots."""
    libvirt = library()
    text = None if tree == Tree() else ET.tostring(element(tree, qualified=False), encoding="unicode")
    where = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, PREFIX, NAMESPACE, where)


def parse(text: str) -> Tree:
    """The snapshots in an element as libvirt returns it."""
    root = xml_text.parse(text)
    return Tree(tuple(_layers(root)), current=root.get("current", ""))


def element(tree: Tree, *, qualified: bool = True) -> ET.Element:
    """The element for a domain's metadata; ``setMetadata`` adds the namespace itself."""
    prefix = f"{{{NAMESPACE}}}" if qualified else ""
    root = ET.Element(f"{prefix}snapshots", {"current": tree.current})
    for layer in tree.layers:
        facts = {
            "id": layer.id,
            "name": layer.name,
            "parent": layer.parent,
            "date": repr(layer.date),
            "memory": YES if layer.memory else "no",
            "disk": next(iter(layer.disks), ""),
            "note": layer.note,
        }
        made = ET.SubElement(root, f"{prefix}snapshot", facts)
        for path in layer.disks[1:]:
            ET.SubElement(made, f"{prefix}disk", {"path": path})
    return root


def _layers(root: ET.Element) -> Iterator[Layer]:
    for found in root:
        yield Layer(
            id=found.get("id", ""),
            name=found.get("name", ""),
            parent=found.get("parent", ""),
            date=float(found.get("date", "0")),
            memory=found.get("memory") == YES,
            disks=(found.get("disk", ""), *(disk.get("path", "") for disk in found)),
            note=found.get("note", ""),
        )
