"""What an OVF descriptor says of a machine: its disks in order, CPUs, memory and firmware."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

LONGEST = 8 * 1024**2
CPU, MEMORY, DISK_DRIVE = "3", "4", "17"
SATA, VIRTIO = "sata", "virtio"
"""CIM resource types, as OVF numbers the rows of its hardware table."""
POWER = re.compile(r"byte\s*\*\s*2\^([0-9]{1,2})")
LARGEST_CONFIG_DRIVE = 32 * 1024**2
"""Bytes. Distributions' VirtualBox boxes have one of 10 MiB or less; no data disk is so small."""
OLD_UNITS = {"byte": 1, "bytes": 1, "kilobytes": 1024, "megabytes": 1024**2, "gigabytes": 1024**3}


class BadOvf(Exception):
    """The descriptor is damaged, or asks for what no box may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ovf:
    """A machine, as its exporter described it. Sizes are bytes; None = not said."""

    disks: tuple[str, ...]
    """Names of the disk files, relative to the descriptor; the first is the one to boot from."""
    config_drives: tuple[str, ...] = ()
    """Those left out of them: too small for more than what cloud-init reads, which a machine's own seed tells it."""
    cpus: int | None = None
    memory: int | None = None
    firmware: str = "bios"
    controller: str = SATA
    """What the boot disk hangs on, as far as it matters to a guest: virtio, or sata for all others."""


def read(path: Path) -> Ovf:
    """Read a descriptor.

    Raises:
        BadOvf: it is no OVF, or names no disk.
    """
    if path.stat().st_size > LONGEST:
        raise BadOvf(f"{path.name} is longer than {LONGEST} bytes")
    try:
        tree = ET.fromstring(path.read_bytes(), ET.XMLParser(target=_NoDoctype()))  # noqa: S314
    except (ET.ParseError, ValueError, LookupError) as error:
        raise BadOvf(f"{path.name} is not an OVF descriptor: {error}") from error
    disks = _disks(tree)
    drives = _config_drives(tree, disks)
    if not disks:
        raise BadOvf(f"{path.name} names no disks")
    return Ovf(
        disks=tuple(disk for disk in disks if disk not in drives),
        config_drives=drives,
        cpus=_cpus(tree),
        memory=_memory(tree),
        firmware=_firmware(tree),
        controller=_controller(tree),
    )


class _NoDoctype(ET.TreeBuilder):
    def doctype(self, name: str, _public: str | None, _system: str | None) -> None:
        raise ValueError(f"it declares a document type ({name})")


def _disks(tree: ET.Element) -> tuple[str, ...]:
    sources = {_get(one, "id"): _get(one, "href") for one in _all(tree, "File")}
    disks = {_get(one, "diskId"): sources.get(_get(one, "fileRef"), "") for one in _all(tree, "Disk")}
    attached = [_text(item, "HostResource").rpartition("/")[2] for item in _items(tree, DISK_DRIVE)]
    order = [one for one in dict.fromkeys(attached) if one in disks] or list(disks)
    return tuple(disks[one] for one in order if disks[one])


def _config_drives(tree: ET.Element, disks: tuple[str, ...]) -> tuple[str, ...]:
    """The tiny ones among several disks, where another is not."""
    sources = {_get(one, "id"): _get(one, "href") for one in _all(tree, "File")}
    sizes = {sources.get(_get(one, "fileRef"), ""): _capacity(one) for one in _all(tree, "Disk")}
    tiny = tuple(disk for disk in disks if (size := sizes.get(disk)) is not None and size <= LARGEST_CONFIG_DRIVE)
    return tiny if len(tiny) < len(disks) else ()


def _capacity(disk: ET.Element) -> int | None:
    return _bytes(_get(disk, "capacity"), _get(disk, "capacityAllocationUnits") or "byte")


def _cpus(tree: ET.Element) -> int | None:
    return next((_number(_text(item, "VirtualQuantity")) for item in _items(tree, CPU)), None)


def _memory(tree: ET.Element) -> int | None:
    for item in _items(tree, MEMORY):
        return _bytes(_text(item, "VirtualQuantity"), _text(item, "AllocationUnits"))
    return None


def _bytes(quantity: str, unit: str) -> int | None:
    number, unit = _number(quantity), unit.strip().lower()
    power = POWER.fullmatch(unit)
    factor = 1 << min(int(power[1]), 40) if power else OLD_UNITS.get(unit)
    return number * factor if number and factor else None


def _firmware(tree: ET.Element) -> str:
    kinds = [_get(one, "type").lower() for one in _all(tree, "Firmware")]
    return "uefi" if any(kind.startswith("efi") for kind in kinds) else "bios"


def _controller(tree: ET.Element) -> str:
    parents = [_text(item, "Parent") for item in _items(tree, DISK_DRIVE)]
    rows = [*_all(tree, "Item"), *_all(tree, "StorageItem")]
    kinds = [_text(row, "ResourceSubType").lower() for row in rows if _text(row, "InstanceID") in parents[:1]]
    return VIRTIO if any(VIRTIO in kind for kind in kinds) else SATA


def _items(tree: ET.Element, kind: str) -> list[ET.Element]:
    rows = [*_all(tree, "Item"), *_all(tree, "StorageItem")]
    return [row for row in rows if _text(row, "ResourceType") == kind]


def _all(tree: ET.Element, name: str) -> list[ET.Element]:
    """All elements of a local name; exporters differ in their namespaces."""
    return tree.findall(f".//{{*}}{name}")


def _text(element: ET.Element, name: str) -> str:
    return (element.findtext(f"{{*}}{name}") or "").strip()


def _get(element: ET.Element, name: str) -> str:
    """An attribute, in whatever namespace."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 and int(text) > 0 else None  # noqa: PLR2004
