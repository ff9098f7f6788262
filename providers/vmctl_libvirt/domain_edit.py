"""Changing a few things of a domain that exists, and keeping the rest of it as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from vmctl_libvirt import identity, layers
from vmctl_libvirt.errors import library
from vmctl_libvirt.identity import Mark
from vmctl_libvirt.layers import Tree
from vmctl_libvirt.patch import register_prefixes

ROOT_DISK = "devices/disk[@device='disk']"
"""The first one; the seed comes after it."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What shall be different; None = as it is."""

    disk: str | None = None
    mark: Mark | None = None
    tree: Tree | None = None

    def applied_to(self, text: str) -> str:
        """Domain XML with the changes."""
        register_prefixes()
        ET.register_namespace(layers.PREFIX, layers.NAMESPACE)
        root = ET.fromstring(text)  # noqa: S314  libvirt made this text
        if self.disk is not None:
            _set_disk(root, self.disk)
        if self.mark is not None:
            attributes = self.mark.attributes()
            _put_metadata(root, ET.Element(f"{{{identity.NAMESPACE}}}machine", attributes))
        if self.tree is not None:
            _put_metadata(root, layers.element(self.tree))
        return ET.tostring(root, encoding="unicode")


def redefine(connection: Any, domain: Any, edit: Edit) -> None:
    """Change what the domain's next start will be; all at once or nothing."""
    connection.defineXML(edit.applied_to(inactive_xml(domain)))


def inactive_xml(domain: Any) -> str:
    """The domain as its next start will be."""
    libvirt = library()
    return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))


def root_disk(domain: Any) -> str:
    """Path of the volume that the machine writes to."""
    root = ET.fromstring(inactive_xml(domain))  # noqa: S314  libvirt made this text
    source = root.find(f"{ROOT_DISK}/source")
    return "" if source is None else source.get("file", "")


def live_chain(domain: Any) -> tuple[str, ...]:
    """Paths of all volumes that the running machine's root disk consists of, the one it writes to first."""
    root = ET.fromstring(domain.XMLDesc(0))  # noqa: S314  libvirt made this text
    disk = root.find(ROOT_DISK)
    found = []
    while disk is not None:
        source = disk.find("source")
        found += [] if source is None else [source.get("file", "")]
        disk = disk.find("backingStore")
    return tuple(found)


def disks(domain: Any) -> tuple[str, ...]:
    """Paths (on the hypervisor) of all volumes that the machine writes to, the root disk first."""
    root = ET.fromstring(inactive_xml(domain))  # noqa: S314  libvirt made this text
    writable = [disk for disk in root.iterfind(ROOT_DISK) if disk.find("readonly") is None]
    sources = (disk.find("source") for disk in writable)
    return tuple(source.get("file", "") for source in sources if source is not None)


def mark_in(text: str) -> Mark | None:
    """The mark in a domain's XML."""
    found = ET.fromstring(text).find(f"metadata/{{{identity.NAMESPACE}}}machine")  # noqa: S314  libvirt made this text
    return None if found is None else identity.parse(ET.tostring(found, encoding="unicode"))


def targets(domain: Any) -> tuple[str, ...]:
    """Names of the domain's disks inside it ("vda"), the root disk first."""
    root = ET.fromstring(domain.XMLDesc(0))  # noqa: S314  as above
    return tuple(target.get("dev", "") for target in root.iterfind("devices/disk/target"))


def _set_disk(root: ET.Element, path: str) -> None:
    disk = root.find(ROOT_DISK)
    source = None if disk is None else disk.find("source")
    if disk is None or source is None:
        raise ValueError("the domain has no disk")
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
