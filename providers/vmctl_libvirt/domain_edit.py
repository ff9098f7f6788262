"""Changing a few things of a domain that exists, and keeping the rest of it as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from msgspec import Struct

from vmctl_libvirt import domain_mark, snapshot_tree, xml_text
from vmctl_libvirt.domain_mark import DomainMark
from vmctl_libvirt.libvirt_errors import NO_DOMAIN, library, still_there
from vmctl_libvirt.patch import register_prefixes
from vmctl_libvirt.snapshot_tree import SnapshotTree

DISK = "devices/disk[@device='disk']"
"""The root disk first; the seed is one as well, and read-only."""


class Edit(Struct, frozen=True, kw_only=True):
    """What shall be different; None = as it is."""

    disks: tuple[str, ...] | None = None
    """Paths of the volumes that it writes to, the root disk first."""
    mark: DomainMark | None = None
    tree: SnapshotTree | None = None

    def applied_to(self, text: str) -> str:
        """Domain XML with the changes."""
        register_prefixes()
        ET.register_namespace(snapshot_tree.PREFIX, snapshot_tree.NAMESPACE)
        root = xml_text.parse(text)
        if self.disks is not None:
            _set_disks(root, self.disks)
        if self.mark is not None:
            attributes = self.mark.attributes()
            _put_metadata(root, ET.Element(f"{{{domain_mark.NAMESPACE}}}machine", attributes))
        if self.tree is not None:
            _put_metadata(root, snapshot_tree.element(self.tree))
        return ET.tostring(root, encoding="unicode")


def redefine(connection: Any, domain: Any, edit: Edit) -> None:
    """Change what the domain's next start will be; all at once or nothing."""
    connection.defineXML(edit.applied_to(inactive_xml(domain)))


def inactive_xml(domain: Any) -> str:
    """The domain as its next start will be."""
    libvirt = library()
    return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))


def root_disk(domain: Any) -> str:
    """Path of the volume that the machine boots from and writes to; "" = it has none."""
    return next(iter(disks(domain)), "")


def disks(domain: Any) -> tuple[str, ...]:
    """Paths (on the hypervisor) of all volumes that the machine writes to, the root disk first; "" = no file."""
    return disks_in(inactive_xml(domain))


def disks_in(text: str) -> tuple[str, ...]:
    """As ``disks``, by the domain's XML."""
    root = xml_text.parse(text)
    return tuple(_path(disk.find("source")) for disk in _writable(root))


def live_chains(domain: Any) -> dict[str, tuple[str, ...]]:
    """By the disk's name inside the running machine, the paths of its volumes, the one that it writes to first."""
    root = xml_text.parse(domain.XMLDesc(0))
    return {_target(disk): tuple(_chain(disk)) for disk in _writable(root)}


def live_volumes(domain: Any) -> frozenset[str]:
    """Paths of all volumes that the running machine's disks consist of."""
    return frozenset(path for chain in live_chains(domain).values() for path in chain)


def all_volumes(connection: Any) -> frozenset[str]:
    """Paths of the files that any domain has as a disk, ours or not, as it runs and as it will next."""
    libvirt = library()
    found: set[str] = set()

    def texts_of(domain: Any) -> list[str]:
        return [domain.XMLDesc(flags) for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE)]

    for _, texts in still_there(connection.listAllDomains(0), texts_of, NO_DOMAIN):
        for text in texts:
            found |= {source.get("file", "") for source in xml_text.parse(text).iterfind(f"{DISK}//source")}
    return frozenset(found)


def is_mentioned(connection: Any, path: str) -> bool:
    """Whether any domain names this file, in whatever place: a disk, a snapshot's note."""
    libvirt = library()
    listed = still_there(
        connection.listAllDomains(0),
        lambda domain: [domain.XMLDesc(flags) for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE)],
        NO_DOMAIN,
    )
    return any(path in text for _, texts in listed for text in texts)


def mark_in(text: str) -> DomainMark | None:
    """The mark in a domain's XML."""
    found = xml_text.parse(text).find(f"metadata/{{{domain_mark.NAMESPACE}}}machine")
    return None if found is None else domain_mark.parse(ET.tostring(found, encoding="unicode"))


def read_only_targets(domain: Any) -> tuple[str, ...]:
    """Names inside the running machine ("vdb") of what it only reads, the seed."""
    root = xml_text.parse(domain.XMLDesc(0))
    writable = _writable(root)
    return tuple(_target(disk) for disk in root.iterfind("devices/disk") if disk not in writable)


def has_virtiofs(domain: Any) -> bool:
    """Whether a virtiofs share is plugged into the running machine, so that its memory must not be saved.

    libvirt before 10 refuses that. Later ones ask virtiofsd for what the guest holds open, and the memory cannot be
    restored when one of these files is gone from the host by then, as any change of branch would have it.
    """
    drivers = xml_text.parse(domain.XMLDesc(0)).iterfind("devices/filesystem/driver")
    return any(each.get("type") == "virtiofs" for each in drivers)


def _writable(root: ET.Element) -> list[ET.Element]:
    return [disk for disk in root.iterfind(DISK) if disk.find("readonly") is None]


def _target(disk: ET.Element) -> str:
    target = disk.find("target")
    return "" if target is None else target.get("dev", "")


def _path(source: ET.Element | None) -> str:
    return "" if source is None else source.get("file", "")


def _chain(disk: ET.Element) -> Iterator[str]:
    at: ET.Element | None = disk
    while at is not None:
        if path := _path(at.find("source")):
            yield path
        at = at.find("backingStore")


def _set_disks(root: ET.Element, paths: Sequence[str]) -> None:
    for disk, path in zip(_writable(root), paths, strict=True):
        source = disk.find("source")
        if source is None:
            raise ValueError("the domain has a disk without a source")
        source.set("file", path)
        source.attrib.pop("index", None)
        for chain in disk.findall("backingStore"):
            disk.remove(chain)  # libvirt reads it from the volume


def _put_metadata(root: ET.Element, element: ET.Element) -> None:
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    for old in metadata.findall(element.tag):
        metadata.remove(old)
    metadata.append(element)
