"""Where a ``FakeDriver`` keeps its machines: in memory, or in a JSON file that several processes share."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from vmctl.driver import Address, Definition, NotOurs, Observed, State, Tag
from vmctl.errors import VmctlError, WrongState
from vmctl.powers import Snapshot
from vmctl.store import files

KILL = "kill"
RUNNING = (State.RUNNING, State.STARTING, State.STOPPING)


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
    problem: str = ""
    starts: int = 0
    """How often it was started or restored."""
    hardware: dict[str, Any] = field(default_factory=dict)
    """What the last ``create`` or ``update`` asked for."""
    snapshots: list[FakeSnapshot] = field(default_factory=list)
    current: str = ""
    """The snapshot that the present state builds on."""
    image: str = ""
    """Path of the image that it was made from."""
    layer: str = ""
    """Key of the layer that its disk stands on, made from that image or frozen since."""

    def kept(self, snapshot: str) -> FakeSnapshot | None:
        """The snapshot of that name."""
        return next((each for each in self.snapshots if each.name == snapshot), None)

    def drop(self, gone: FakeSnapshot) -> None:
        """Forget a snapshot; what builds on it builds on its parent from then on."""
        self.snapshots.remove(gone)
        for each in self.snapshots:
            each.parent = gone.parent if each.parent == gone.name else each.parent
        self.current = gone.parent if self.current == gone.name else self.current

    def as_snapshot(self, kept: FakeSnapshot) -> Snapshot:
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
    layers: dict[str, str] = field(default_factory=dict)
    """Key of each layer → key of the one that it stands on."""

    def stands_on(self, key: str) -> bool:
        """Whether a machine or a layer stands on this layer."""
        return key in self.layers.values() or any(machine.layer == key for machine in self.machines.values())


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
    return {"machines": machines, "faults": content.faults, "layers": content.layers}


def _decode(raw: dict[str, Any]) -> Content:
    machines = {name: _machine(row) for name, row in raw.get("machines", {}).items()}
    return Content(machines=machines, faults=raw.get("faults", {}), layers=raw.get("layers", {}))


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


def made(definition: Definition, size: int, image: str, layer: str) -> FakeMachine:
    """A new machine, with all that ``create`` was asked for."""
    return FakeMachine(
        tag=definition.tag, address=ssh_address(definition), disk=size, hardware=hardware_of(definition), image=image,
        layer=layer,
    )  # fmt: skip


def found(content: Content, name: str, tag: Tag) -> FakeMachine | None:
    """The machine of that name, if there is one; it must bear the tag."""
    machine = content.machines.get(name)
    if machine is not None:
        require_ours(name, machine, tag)
    return machine


def existing(content: Content, name: str, tag: Tag) -> FakeMachine:
    """As ``found``, but absence is an error."""
    machine = found(content, name, tag)
    if machine is None:
        raise WrongState(f"there is no machine {name!r}", hint="vmctl up")
    return machine


def require_ours(name: str, machine: FakeMachine, tag: Tag) -> None:
    """See that a machine bears the tag."""
    if not machine.tag.is_same(tag):
        raise NotOurs("fake", name, machine.tag)


def observed(machine: FakeMachine) -> Observed:
    """As a driver tells of it."""
    run = str(machine.starts) if machine.state in (*RUNNING, State.PAUSED) else ""
    raw = f"fake {machine.state.value}"
    return Observed(state=machine.state, tag=machine.tag, run=run, raw=raw, problem=machine.problem)


def ssh_address(definition: Definition) -> Address | None:
    """Where its SSH forward is."""
    ssh = next((forward for forward in definition.forwards if forward.name == "ssh"), None)
    return Address(host=ssh.host_ip, port=ssh.host) if ssh else None


def hardware_of(definition: Definition) -> dict[str, object]:
    """What a definition asks for, as it is written down."""
    return {
        "cpus": definition.spec.cpus,
        "memory": definition.spec.memory,
        "forwards": [[each.protocol, each.host_ip, each.host, each.guest] for each in definition.forwards],
        "nics": [[nic.network, nic.ip] for nic in definition.nics],
        "shares": [[share.tag, str(share.host)] for share in definition.shares],
        "seed": str(definition.seed or ""),
    }


def configured_faults(option: object) -> dict[str, str]:
    """What an option says of methods that fail: one name, or a mapping from names to messages."""
    if isinstance(option, Mapping):
        return {str(method): str(message) for method, message in option.items()}
    return {str(option): "the fake driver was told to fail"} if option else {}


def fail(message: str) -> None:
    """Fail in the way that a fault says: with this message, or by killing this process; "" = not at all."""
    if message == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    if message:
        raise VmctlError(message)
