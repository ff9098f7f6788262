"""Where a ``FakeDriver`` keeps its machines: in memory, or in a JSON file that several processes share."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from vmctl.driver import Address, State, Tag
from vmctl.powers import Snapshot
from vmctl.store import files


@dataclass
class FakeSnapshot:
    """A state of a fake machine that was kept."""

    name: str
    parent: str
    date: float
    memory: bool
    note: str
    disk: int
    address: Address | None
    hardware: dict[str, Any]


@dataclass
class FakeMachine:
    """A machine that exists only on paper."""

    tag: Tag
    address: Address | None
    disk: int
    """Size of the root disk in bytes."""
    state: State = State.STOPPED
    starts: int = 0
    """How often it was started or restored."""
    hardware: dict[str, Any] = field(default_factory=dict)
    """What the last ``create`` or ``update`` asked for."""
    snapshots: list[FakeSnapshot] = field(default_factory=list)
    current: str = ""
    """The snapshot that the present state builds on."""
    image: str = ""
    """Path of the image that it was made from."""

    def kept(self, snapshot: str) -> FakeSnapshot | None:
        """The snapshot of that name."""
        return next((each for each in self.snapshots if each.name == snapshot), None)

    def drop(self, gone: FakeSnapshot) -> None:
        """Forget a snapshot; what builds on it builds on its parent from then on."""
        self.snapshots.remove(gone)
        for each in self.snapshots:
            each.parent = gone.parent if each.parent == gone.name else each.parent
        self.current = gone.parent if self.current == gone.name else self.current

    def told(self, kept: FakeSnapshot) -> Snapshot:
        """A snapshot, as a driver tells it."""
        return Snapshot(
            name=kept.name,
            parent=kept.parent,
            date=kept.date,
            size=0,
            memory=kept.memory,
            current=self.current == kept.name,
            note=kept.note,
        )


@dataclass
class Content:
    """All that a fake hypervisor knows."""

    machines: dict[str, FakeMachine] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    """Name of a driver's method → what it fails with; see ``FakeDriver.fail``."""


class FakeMachines:
    """Hands out the content to one thread of one process at a time, and keeps what that changed."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._content = Content()
        self._lock = threading.RLock()

    @contextmanager
    def open(self) -> Iterator[Content]:
        """The content; changes made inside the block are kept when it ends well."""
        with self._lock:
            if self._file is None:
                yield self._content
                return
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                before = self._file.read_text(encoding="utf-8") if self._file.exists() else "{}"
                content = _decode(json.loads(before))
                yield content
                after = json.dumps(_encode(content), indent=1)
                if after != before:
                    files.write(self._file, after)


def _encode(content: Content) -> dict[str, Any]:
    machines = {name: to_builtins(each) for name, each in content.machines.items()}
    return {"machines": machines, "faults": content.faults}


def _decode(raw: dict[str, Any]) -> Content:
    machines = {name: _machine(row) for name, row in raw.get("machines", {}).items()}
    return Content(machines=machines, faults=raw.get("faults", {}))


def _machine(row: dict[str, Any]) -> FakeMachine:
    return FakeMachine(
        **{
            **row,
            "tag": Tag(**row["tag"]),
            "address": _address(row["address"]),
            "state": State(row["state"]),
            "snapshots": [
                FakeSnapshot(**{**kept, "address": _address(kept["address"])}) for kept in row.get("snapshots", ())
            ],
        }
    )


def _address(row: dict[str, Any] | None) -> Address | None:
    return Address(**row) if row else None
