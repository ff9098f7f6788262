"""What vmctl remembers of layers: whose they are, what they save, when they were last used. Hypervisors have the disks.

A layer that is not in here is another user's, or older than a lost file; that makes it no less usable.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct, ValidationError, convert, structs, to_builtins

from vmctl.errors import VmctlError
from vmctl.layout import HomeLayout
from vmctl.store import files, locks

FORMAT = 1


class LayerNote(Struct, frozen=True, kw_only=True):
    """What is remembered of one layer."""

    provider: str
    where: str
    """Which hypervisor of the provider has it."""
    project: str
    """The directory of the project that made it."""
    machine: str
    provisioners: tuple[str, ...]
    """Names of what was done on it, in order."""
    seconds: float
    """What that took."""
    used: float
    """When it was made, or last used; seconds since the epoch."""


def read(home: HomeLayout) -> Mapping[str, LayerNote]:
    """All notes, by key. What is damaged is as good as lost."""
    with contextlib.suppress(VmctlError, ValidationError, ValueError, TypeError, KeyError):
        data = files.read_json(home.layers)
        return {} if data is None else convert(data["layers"], dict[str, LayerNote])
    return {}


def add(home: HomeLayout, key: str, note: LayerNote) -> None:
    """Remember a layer that was made."""
    with _changed(home) as notes:
        notes[key] = note


def touch(home: HomeLayout, keys: Iterable[str]) -> None:
    """Remember that layers were used just now."""
    with _changed(home) as notes:
        for key in notes.keys() & set(keys):
            notes[key] = structs.replace(notes[key], used=time.time())


def forget(home: HomeLayout, keys: Iterable[str]) -> None:
    """Forget layers that are gone, their notes last: as long as there is one, somebody forgets them again."""
    gone = tuple(keys)
    for key in gone:
        files.remove_tree(home.memory(key).root)
    with _changed(home) as notes:
        for key in gone:
            notes.pop(key, None)


@contextlib.contextmanager
def _changed(home: HomeLayout) -> Iterator[dict[str, LayerNote]]:
    with locks.hold(home.locks / "layers", "what vmctl knows of layers"):
        notes = dict(read(home))
        yield notes
        files.write_json(home.layers, {"format": FORMAT, "layers": to_builtins(notes)})
