"""Writing files with holes: a run of zeros costs no disk space, whatever it cost in the archive."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

from vmctl import interrupt
from vmctl.boxes.space import Room
from vmctl.spec import GIB

CHUNK = 256 * 1024
ZEROS = bytes(CHUNK)
LARGEST = 1024 * GIB
UNQUESTIONED = 32 * GIB
RATIO = 2000
"""Zeros shrink a thousandfold and more, real disks do not: what claims to is a bomb, and hashing it takes minutes."""


def bound(packed: int) -> int:
    """To how many bytes, holes included, ``packed`` bytes of a stranger's may unpack."""
    return min(LARGEST, max(UNQUESTIONED, packed * RATIO))


def copy(read: Callable[[int], bytes], target: BinaryIO, *, limit: int | None = None, room: Room | None = None) -> int:
    """Copy until ``read`` has no more, and return how many bytes that were; ``target`` is new and empty.

    Raises:
        TooLong: there is more than ``limit`` bytes.
        NoSpace: there is no more ``room``.
        Interrupted: the user asked to stop.
    """
    total = 0
    while block := read(CHUNK):
        interrupt.check()
        total += len(block)
        if limit is not None and total > limit:
            raise TooLong
        if block == ZEROS[: len(block)]:
            target.seek(len(block), os.SEEK_CUR)
        else:
            if room:
                room.take(len(block))
            target.write(block)
    target.truncate(total)
    return total


class TooLong(Exception):
    """There is more data than was allowed; a caller that knows whose data it is turns this into its error."""
