"""No folder may show a guest vmctl's own files: there are all machines' private keys, and what vmctl believes.

Directories are compared by device and inode, so another spelling, a link or a bind mount makes no difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vmctl import layout
from vmctl.errors import UsageError
from vmctl.spec import Folder, MachineSpec

MOUNTS = Path("/proc/self/mountinfo")
ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


def check(spec: MachineSpec) -> None:
    """Refuse folders that contain vmctl's data directory, or lie in it.

    Raises:
        UsageError: some do; all are named, each with its place.
    """
    home = layout.home()
    found = [(number, folder, why) for number, folder in enumerate(spec.folders) if (why := _why(folder.host, home))]
    if not found:
        return
    lines = [f"{_place(spec, number)}{folder.host} {why} {home}" for number, folder, why in found]
    several = f"{spec.name}: {len(lines)} folders would show the guest vmctl's own files"
    raise UsageError(
        several if len(lines) > 1 else f"{spec.name}: {lines[0]}, vmctl's own files",
        details="\n".join([*(lines if len(lines) > 1 else ()), "The private keys of all machines are there."]),
        hint=f"share a subdirectory instead, or keep them elsewhere: {_elsewhere(found[0][1], home)}",
    )


def _elsewhere(folder: Folder, home: Path) -> str:
    """Commands that move the data directory out of the folder; nothing in it depends on where it is."""
    return f"mv -n -- '{home}' DIRECTORY && export VMCTL_HOME=DIRECTORY    # outside of {folder.host}"


def _place(spec: MachineSpec, number: int) -> str:
    place = spec.places.get(f"synced_folders.{number}") or spec.places.get("synced_folders")
    return f"{place}: " if place else ""


def _why(folder: Path, home: Path) -> str:
    """In which way a folder would show a data directory; "" = in none."""
    around = set(_identities(home))
    own = {one for part in (home, *_parts(home)) if (one := _identity(part))}
    if not own.isdisjoint(_identities(folder)):
        return "lies in"
    return "contains" if not (around | own).isdisjoint(_shown(folder, {device for device, _ in around})) else ""


def _parts(home: Path) -> Iterator[Path]:
    """The directories of the data directory, any of which may be mounted elsewhere."""
    of_home = layout.HomeLayout(home)
    yield from (of_home.projects, of_home.boxes, of_home.locks, of_home.downloads)
    try:
        yield from of_home.projects.iterdir()
    except OSError:
        return


def _identities(path: Path) -> Iterator[tuple[int, int]]:
    """Of a directory and all around it, as far as they are there."""
    real = Path(os.path.realpath(path))
    return (one for part in (real, *real.parents) if (one := _identity(part)))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _shown(folder: Path, devices: set[int]) -> Iterator[tuple[int, int]]:
    """Of a folder and of what is mounted below it from these file systems: a server that is gone is not asked."""
    real = Path(os.path.realpath(folder))
    for path in (real, *(mount for mount, device in _mounts() if device in devices and real in mount.parents)):
        if one := _identity(path):
            yield one


def _mounts() -> Iterator[tuple[Path, int]]:
    """Where which device is mounted; nothing on a system that does not tell so."""
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, device, _, place, *_ = line.split(" ")
        major, minor = device.split(":")
        for escape, character in ESCAPES.items():
            place = place.replace(escape, character)
        yield Path(place), os.makedev(int(major), int(minor))
