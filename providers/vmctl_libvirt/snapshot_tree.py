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


class SnapshotNode(Struct, frozen=True, kw_only=True):
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


class SnapshotTree(Struct, frozen=True):
    """All snapshots of one machine, parents first."""

    nodes: tuple[SnapshotNode, ...] = ()
    current: str = ""
    """Name of the one that the machine's disks build on; "" = none."""

    def find(self, name: str) -> SnapshotNode | None:
        """The snapshot of that name."""
        return next((node for node in self.nodes if node.name == name), None)

    def with_node(self, node: SnapshotNode) -> SnapshotTree:
        """Also this snapshot of the present state, in place of one of the same name."""
        rest = self.without(node.name)
        return SnapshotTree((*rest.nodes, structs.replace(node, parent=rest.current)), current=node.name)

    def without(self, name: str) -> SnapshotTree:
        """Not that snapshot; what builds on it builds on its parent then."""
        gone = self.find(name)
        if gone is None:
            return self
        kept = (node for node in self.nodes if node.name != name)
        moved = (structs.replace(node, parent=gone.parent) if node.parent == name else node for node in kept)
        return SnapshotTree(tuple(moved), current=gone.parent if self.current == name else self.current)

    def moved(self, old: str, new: str) -> SnapshotTree:
        """What was in the volume ``old`` is in ``new``."""
        nodes = (structs.replace(node, disks=replaced(node.disks, old, new)) for node in self.nodes)
        return structs.replace(self, nodes=tuple(nodes))

    def volumes(self) -> frozenset[str]:
        """Paths of the volumes that the snapshots hold."""
        return frozenset(path for node in self.nodes for path in node.disks)


def replaced(paths: Iterable[str], old: str, new: str) -> tuple[str, ...]:
    """The paths, with ``new`` in place of ``old``."""
    return tuple(new if path == old else path for path in paths)


def read(domain: Any) -> SnapshotTree:
    """The snapshots of a domain, as its next start will know them."""
    libvirt = library()
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    except libvirt.libvirtError as error:
        if is_code(error, "VIR_ERR_NO_DOMAIN_METADATA"):
            return SnapshotTree()
        raise
    return parse(text)


def write(domain: Any, tree: SnapshotTree) -> None:
    """Have a domain remember its snapshots."""
    libvirt = library()
    text = None if tree == SnapshotTree() else ET.tostring(element(tree, qualified=False), encoding="unicode")
    where = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, PREFIX, NAMESPACE, where)


def parse(text: str) -> SnapshotTree:
    """The snapshots in an element as libvirt returns it."""
    root = xml_text.parse(text)
    return SnapshotTree(tuple(_nodes(root)), current=root.get("current", ""))


def element(tree: SnapshotTree, *, qualified: bool = True) -> ET.Element:
    """The element for a domain's metadata; ``setMetadata`` adds the namespace itself."""
    prefix = f"{{{NAMESPACE}}}" if qualified else ""
    root = ET.Element(f"{prefix}snapshots", {"current": tree.current})
    for node in tree.nodes:
        facts = {
            "id": node.id,
            "name": node.name,
            "parent": node.parent,
            "date": repr(node.date),
            "memory": YES if node.memory else "no",
            "disk": next(iter(node.disks), ""),
            "note": node.note,
        }
        made = ET.SubElement(root, f"{prefix}snapshot", facts)
        for path in node.disks[1:]:
            ET.SubElement(made, f"{prefix}disk", {"path": path})
    return root


def _nodes(root: ET.Element) -> Iterator[SnapshotNode]:
    for found in root:
        yield SnapshotNode(
            id=found.get("id", ""),
            name=found.get("name", ""),
            parent=found.get("parent", ""),
            date=float(found.get("date", "0")),
            memory=found.get("memory") == YES,
            disks=(found.get("disk", ""), *(disk.get("path", "") for disk in found)),
            note=found.get("note", ""),
        )
