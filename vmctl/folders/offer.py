"""Which folders the hypervisor is to offer, and as whose; decided before the machine starts.

No folder may show a guest vmctl's own files: there are all machines' private keys, and what vmctl believes.
Directories are compared by device and inode, so another spelling, a link or a bind mount makes no difference.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from vmctl import layout
from vmctl.driver import Features, Share
from vmctl.errors import UsageError
from vmctl.spec import Folder, FolderKind, MachineSpec

ORDINARY = range(1000, 60000)  # uids of people, by Debian's and most others' rules
DEFAULT_UID = 1000
TAG_LENGTH = 12  # hex digits
MOUNTS = Path("/proc/self/mountinfo")
ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


def login_uid(spec: MachineSpec) -> int:
    """The uid that the guest's login user should have, so that files need no mapping where that can be.

    It is that of the person who owns the first writable folder. A folder that root (or the system) owns says nothing
    of the kind; its owner is mapped to the login user then (``Share.owner``).
    """
    owners = (folder.host.stat().st_uid for folder in spec.folders if not folder.read_only and folder.host.exists())
    return next((uid for uid in owners if uid in ORDINARY), DEFAULT_UID)


def shares(spec: MachineSpec, features: Features, *, user_uid: int | None) -> tuple[Share, ...]:
    """What the hypervisor offers to the guest: every folder that can be live.

    Args:
        spec: the machine.
        features: what its driver can share.
        user_uid: the login user's uid in the guest; None = not known, so nothing is mapped.

    Raises:
        UsageError: a folder wants a kind that is not to be had, or would show vmctl's own files.
    """
    refuse_own_files(spec)
    kinds = ((folder, _kind(folder, spec, features)) for folder in spec.folders)
    return tuple(
        Share(
            tag=tag(folder),
            host=folder.host,
            kind=kind,
            read_only=folder.read_only,
            owner=_owner(folder, user_uid),
        )
        for folder, kind in kinds
        if kind != "rsync"
    )


def tag(folder: Folder) -> str:
    """The name that the hypervisor offers a folder under: stable, and one for each guest path (18 bytes)."""
    return f"vmctl-{hashlib.sha256(folder.guest.encode()).hexdigest()[:TAG_LENGTH]}"


def _kind(folder: Folder, spec: MachineSpec, features: Features) -> FolderKind:
    if folder.kind == "rsync" or folder.kind in features.folders:
        return folder.kind
    if folder.kind == "auto":
        return features.folders[0] if features.folders else "rsync"
    offered = " and ".join([*features.folders, "rsync"])
    why = f": {features.no_folders}" if features.no_folders else ""
    raise UsageError(
        f"{spec.name}: the folder {folder.guest} cannot be shared by {folder.kind} here{why}",
        details=f"Here, folders can be shared by {offered}.",
        hint=features.folders_by or "write `type: auto` (or leave it out) to get the best that host and guest can",
    )


def _owner(folder: Folder, user_uid: int | None) -> tuple[int, int] | None:
    if user_uid is None or not folder.host.exists() or folder.host.stat().st_uid == user_uid:
        return None
    return (user_uid, user_uid)


def refuse_own_files(spec: MachineSpec) -> None:
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
    return f"mv -n -- {shlex.quote(str(home))} DIRECTORY && export VMCTL_HOME=DIRECTORY    # outside of {folder.host}"


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
