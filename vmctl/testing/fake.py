"""A driver without a hypervisor. Its machines have states and addresses, and no guests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vmctl.driver import Address, Definition, Disk, Features, Host, Observed, State, Tag
from vmctl.errors import UsageError, VmctlError, WrongState
from vmctl.powers import Exported, Layer, Snapshot
from vmctl.spec import FolderKind
from vmctl.testing.fake_machines import (
    RUNNING,
    FakeMachine,
    FakeMachines,
    FakeSnapshot,
    configured_faults,
    existing,
    fail,
    found,
    hardware_of,
    made,
    observed,
    require_ours,
    ssh_address,
)  # fmt: skip

FAULT_KEY = "fail"


class FakeDriver:
    """The whole driver protocol, ``Suspends``, ``Snapshots``, ``Layers`` and ``Exports`` included, in memory or a file.

    Options (``Host.options``, so ``fake: {…}`` of a Vmfile where it is installed as the provider ``fake``):
        directory: keep the machines in ``machines.json`` there, shared by all processes that name it.
        fail: name of a method whose every call fails, or a mapping from names to messages.

    Attributes:
        calls: every call as (method, machine), in order; "" for calls about none.
        on_call: called with the same before each call; may raise, wait, or kill.
        ignores_button: guests do not react to ``stop`` without ``force``.
        keeps_memory: snapshots of running machines hold their memory.
        problem: what ``usable`` says.
    """

    name = "fake"

    def __init__(
        self,
        host: Host,
        *,
        directory: Path | None = None,
        folders: tuple[FolderKind, ...] = (),
        parallel: bool = True,
    ) -> None:
        self.host = host
        chosen = directory or host.options.get("directory")
        self._machines = FakeMachines(Path(str(chosen)) / "machines.json" if chosen else None)
        self._features = Features(formats=("qcow2", "raw"), folders=folders, parallel=parallel)
        self.calls: list[tuple[str, str]] = []
        self.on_call: Callable[[str, str], None] = lambda _method, _machine: None
        self.ignores_button = False
        self.keeps_memory = host.options.get("keeps_memory", True) is not False
        self.problem = ""
        self._configured = configured_faults(host.options.get(FAULT_KEY))

    @property
    def features(self) -> Features:
        """As configured."""
        return self._features

    @property
    def where(self) -> str:
        """Always the same."""
        return "fake"

    def usable(self) -> str:
        """``problem``."""
        return self.problem

    def fail(self, method: str, message: str = "the fake driver was told to fail") -> None:
        """Make every call of ``method`` raise ``VmctlError(message)``, or kill this process (``message="kill"``)."""
        with self._machines.open() as content:
            content.faults[method] = message

    def mend(self) -> None:
        """Forget all faults."""
        self._configured = {}
        with self._machines.open() as content:
            content.faults.clear()

    def machine(self, name: str) -> FakeMachine:
        """A copy of what the fake knows of a machine; KeyError when there is none."""
        with self._machines.open() as content:
            return content.machines[name]

    def put(self, name: str, state: State, problem: str = "") -> None:
        """Change a machine's state behind vmctl's back."""
        with self._machines.open() as content:
            content.machines[name].state, content.machines[name].problem = state, problem

    def check(self, definition: Definition) -> None:
        """Refuse folders that ``features`` lacks, and a disk that would shrink."""
        self._begin("check", definition.name)
        for share in definition.shares:
            if share.kind not in self._features.folders:
                raise UsageError(f"{share.host}: the fake driver cannot do {share.kind}", hint="use `type: rsync`")
        with self._machines.open() as content:
            present = content.machines.get(definition.name)
            if present and definition.spec.disk is not None and definition.spec.disk < present.disk:
                raise UsageError(f"machines.{definition.spec.name}.disk: a disk cannot shrink")

    def create(self, definition: Definition, base: Disk) -> None:
        """Write the machine down."""
        self._begin("create", definition.name)
        if not base.path.exists():
            raise VmctlError(f"{base.path} does not exist", hint="vmctl box list")
        with self._machines.open() as content:
            present = content.machines.get(definition.name)
            if present is None:
                if base.layer and base.layer not in content.layers:
                    raise WrongState(f"there is no layer {base.layer[:12]}", hint="vmctl up --cold")
                size = definition.spec.disk or base.virtual_size
                content.machines[definition.name] = made(definition, size, str(base.path), base.layer)
            else:
                require_ours(definition.name, present, definition.tag)

    def update(self, definition: Definition) -> None:
        """Write down other hardware for a stopped machine."""
        self._begin("update", definition.name)
        with self._machines.open() as content:
            machine = existing(content, definition.name, definition.tag)
            if machine.state in (*RUNNING, State.PAUSED, State.SAVED):
                raise WrongState(f"the machine {definition.name!r} is {machine.state.value}", hint="vmctl reload")
            machine.tag, machine.address = definition.tag, ssh_address(definition)
            machine.hardware = hardware_of(definition)
            machine.disk = max(machine.disk, definition.spec.disk or 0)

    def start(self, name: str, tag: Tag) -> None:
        """Running, from whatever it was."""
        self._begin("start", name)
        with self._machines.open() as content:
            machine = existing(content, name, tag)
            if machine.state not in (*RUNNING, State.PAUSED):
                machine.starts += 1
            machine.state, machine.problem = State.RUNNING, ""

    def stop(self, name: str, tag: Tag, *, force: bool = False) -> None:
        """Off at once, unless ``ignores_button``."""
        self._begin("stop", name)
        with self._machines.open() as content:
            machine = found(content, name, tag)
            if machine is not None and (force or (machine.state is not State.SAVED and not self.ignores_button)):
                machine.state, machine.problem = State.STOPPED, ""

    def suspend(self, name: str, tag: Tag) -> None:
        """Saved."""
        self._begin("suspend", name)
        with self._machines.open() as content:
            machine = existing(content, name, tag)
            if machine.state not in (*RUNNING, State.PAUSED, State.SAVED):
                raise WrongState(f"the machine {name!r} is not running", hint="vmctl up")
            machine.state = State.SAVED

    def clone(self, definition: Definition, source: str, tag: Tag) -> None:
        """Another machine, with the image of ``source``."""
        self._begin("clone", definition.name)
        with self._machines.open() as content:
            machine = existing(content, source, tag)
            if machine.state is not State.STOPPED:
                raise WrongState(f"the machine {source!r} is {machine.state.value}", hint="vmctl halt")
            if found(content, definition.name, definition.tag) is None:
                content.machines[definition.name] = made(definition, machine.disk, machine.image, machine.layer)

    def export(self, name: str, tag: Tag, directory: Path) -> Exported:
        """A copy of the image that the machine was made from."""
        self._begin("export", name)
        with self._machines.open() as content:
            machine = existing(content, name, tag)
        target = directory / "disk.qcow2"
        target.write_bytes(Path(machine.image).read_bytes())
        return Exported(disks=(target,))

    def destroy(self, name: str, tag: Tag) -> None:
        """Forgotten."""
        self._begin("destroy", name)
        with self._machines.open() as content:
            if found(content, name, tag):
                del content.machines[name]

    def states(self) -> Mapping[str, Observed]:
        """All machines."""
        self._begin("states")
        with self._machines.open() as content:
            return {name: observed(machine) for name, machine in content.machines.items()}

    def observe(self, name: str) -> Observed | None:
        """One machine."""
        self._begin("observe", name)
        with self._machines.open() as content:
            return observed(content.machines[name]) if name in content.machines else None

    def address(self, name: str, tag: Tag) -> Address | None:
        """Where the machine's SSH forward is, while it runs."""
        self._begin("address", name)
        with self._machines.open() as content:
            machine = found(content, name, tag)
            return machine.address if machine is not None and machine.state in RUNNING else None

    def snapshots(self, name: str, tag: Tag) -> tuple[Snapshot, ...]:
        """As they were made."""
        self._begin("snapshots", name)
        with self._machines.open() as content:
            machine = existing(content, name, tag)
            return tuple(machine.as_snapshot(kept) for kept in machine.snapshots)

    def save_snapshot(self, name: str, tag: Tag, snapshot: str, *, replace: bool = False, note: str = "") -> Snapshot:
        """Written down."""
        self._begin("save_snapshot", name)
        with self._machines.open() as content:
            machine = existing(content, name, tag)
            older = machine.kept(snapshot)
            if older and not replace:
                raise WrongState(f"{name!r} has a snapshot {snapshot!r} already", hint="use another name")
            if machine.state not in (*RUNNING, State.STOPPED, State.CRASHED):
                raise WrongState(f"the machine {name!r} is {machine.state.value}", hint="vmctl resume")
            if older:
                machine.drop(older)
            made = FakeSnapshot(
                name=snapshot,
                parent=machine.current,
                date=time.time(),
                memory=self.keeps_memory and machine.state in RUNNING,
                note=note,
                disk=machine.disk,
                address=machine.address,
                hardware=machine.hardware,
            )
            machine.snapshots.append(made)
            machine.current = snapshot
            return machine.as_snapshot(made)

    def restore_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Saved or stopped, with the hardware of then."""
        self._begin("restore_snapshot", name)
        with self._machines.open() as content:
            machine = existing(content, name, tag)
            kept = machine.kept(snapshot)
            if kept is None:
                raise WrongState(f"{name!r} has no snapshot {snapshot!r}", hint="vmctl snapshot list")
            machine.disk, machine.address, machine.hardware = kept.disk, kept.address, kept.hardware
            machine.current = snapshot
            machine.state = State.SAVED if kept.memory else State.STOPPED

    def remove_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        """Forgotten."""
        self._begin("remove_snapshot", name)
        with self._machines.open() as content:
            machine = existing(content, name, tag)
            if kept := machine.kept(snapshot):
                machine.drop(kept)

    def layers(self) -> tuple[Layer, ...]:
        """As they were frozen."""
        self._begin("layers")
        with self._machines.open() as content:
            return tuple(Layer(key=key, size=1, needed=content.stands_on(key)) for key in content.layers)

    def freeze(self, name: str, tag: Tag, key: str) -> bool:
        """Written down."""
        self._begin("freeze", name)
        with self._machines.open() as content:
            machine = existing(content, name, tag)
            if machine.state not in (*RUNNING, State.STOPPED, State.CRASHED):
                raise WrongState(f"the machine {name!r} is {machine.state.value}", hint="vmctl resume")
            if key in content.layers:
                return False
            content.layers[key] = machine.layer
            machine.layer = key
            return True

    def remove_layer(self, key: str) -> bool:
        """Forgotten, unless something stands on it."""
        self._begin("remove_layer")
        with self._machines.open() as content:
            if content.stands_on(key):
                return False
            content.layers.pop(key, None)
            return True

    def _begin(self, method: str, machine: str = "") -> None:
        self.calls.append((method, machine))
        self.on_call(method, machine)
        with self._machines.open() as content:
            message = content.faults.get(method) or self._configured.get(method, "")
        fail(message)
