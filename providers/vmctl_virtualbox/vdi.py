"""The heads of VDI files: who a disk is, and on what it stands, without asking VirtualBox, which would remember it."""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

HEAD = struct.Struct("<64xII272xI20xQIIII16s16x16s16x")
"""Signature, version, where the blocks begin, the disk's size, a block's size (and what it has besides), how many
blocks there are and are in the file; the UUIDs of the disk and of its parent, each before that of its last change."""
SIGNATURE = 0xBEDA107F
MAJOR = 1
NO_UUID = uuid.UUID(int=0)


class Head(Struct, frozen=True):
    """What the first sector of a VDI file says."""

    uuid: str
    parent: str
    """UUID of the disk that it stands on; "" = none."""
    capacity: int
    """Bytes, as the guest sees it."""
    is_whole: bool
    """Whether the file has all the blocks that it should have."""
    allocated: int
    """Bytes on the host's disk."""
    changed: float
    """When the file was last changed, in seconds since the epoch."""


def read(path: Path) -> Head | None:
    """The head of a file; None = it is gone, or no VDI file of the kind that VirtualBox has written since 2007.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data, stat = file.read(HEAD.size), os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    if len(data) < HEAD.size:
        return None
    signature, version, start, capacity, block, extra, _, present, own, parent = HEAD.unpack(data)
    if signature != SIGNATURE or version >> 16 != MAJOR:
        return None
    ground = uuid.UUID(bytes_le=parent)
    return Head(
        uuid=str(uuid.UUID(bytes_le=own)),
        parent="" if ground == NO_UUID else str(ground),
        capacity=capacity,
        is_whole=stat.st_size >= start + present * (block + extra),
        allocated=stat.st_blocks * 512,
        changed=stat.st_mtime,
    )


def below(*directories: Path) -> Iterator[Head]:
    """The heads of all disks in some directories and those in them; what goes meanwhile is left out."""
    for directory in directories:
        for place, _, names in os.walk(directory):
            for name in names:
                if name.endswith(".vdi") and (head := read(Path(place, name))):
                    yield head
