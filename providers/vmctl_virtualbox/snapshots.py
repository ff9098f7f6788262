"""A machine's snapshots, as its settings file tells them.

VBoxManage lists names only. When a snapshot was taken, whether it holds memory, and which files it keeps stands in
the machine's settings file, which VirtualBox replaces atomically after each change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from vmctl.driver import Snapshot
from vmctl.errors import VmctlError

NAMESPACE = "{http://www.virtualbox.org/}"


@dataclass(frozen=True)
class Kept:
    """A snapshot with the identity that VirtualBox gave it; names need not be unique there."""

    uuid: str
    snapshot: Snapshot


def read_kept(settings: Path) -> tuple[Kept, ...]:
    """The snapshots in a settings file, parents first.

    Raises:
        VmctlError: the file can not be read.
    """
    try:
        root = ET.fromstring(settings.read_bytes())  # noqa: S314  VirtualBox wrote this file, for the same user
    except (OSError, ET.ParseError) as error:
        raise VmctlError(f"can not read the machine's settings in {settings}", details=str(error)) from error
    machine = root.find(f"{NAMESPACE}Machine")
    if machine is None:
        return ()
    current = _uuid(machine.get("currentSnapshot", ""))
    disks = _disks(machine, settings.parent)
    return tuple(_walk(machine.find(f"{NAMESPACE}Snapshot"), "", current, disks, settings.parent))


def _walk(
    element: ET.Element | None, parent: str, current: str, disks: Mapping[str, Path], folder: Path
) -> Iterator[Kept]:
    if element is None:
        return
    name, uuid = element.get("name", ""), _uuid(element.get("uuid", ""))
    state = element.get("stateFile")
    files = [disks[each] for each in _attached(element) if each in disks]
    if state:
        files.append(folder / state)
    yield Kept(
        uuid,
        Snapshot(
            name=name,
            parent=parent,
            date=datetime.fromisoformat(element.get("timeStamp", "")).astimezone(UTC).timestamp(),
            size=sum(file.stat().st_blocks * 512 for file in files if file.exists()),
            memory=bool(state),
            current=uuid == current,
        ),
    )
    for child in element.findall(f"{NAMESPACE}Snapshots/{NAMESPACE}Snapshot"):
        yield from _walk(child, name, current, disks, folder)


def _attached(snapshot: ET.Element) -> Iterator[str]:
    """UUIDs of the hard disks that a snapshot froze; controllers stand in different places in different versions."""
    for child in snapshot:
        if child.tag in (f"{NAMESPACE}Hardware", f"{NAMESPACE}StorageControllers"):
            for device in child.iter(f"{NAMESPACE}AttachedDevice"):
                image = device.find(f"{NAMESPACE}Image")
                if device.get("type") == "HardDisk" and image is not None:
                    yield _uuid(image.get("uuid", ""))


def _disks(machine: ET.Element, folder: Path) -> dict[str, Path]:
    registry = machine.find(f"{NAMESPACE}MediaRegistry")
    disks = registry.iter(f"{NAMESPACE}HardDisk") if registry is not None else ()
    return {_uuid(disk.get("uuid", "")): folder / disk.get("location", "") for disk in disks}


def _uuid(text: str) -> str:
    return text.strip("{}").lower()
