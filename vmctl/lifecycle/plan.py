"""What `up` would do: observed state and spec → an action and the fields that differ. Pure data; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from msgspec import Struct

from vmctl import redaction
from vmctl.driver import State
from vmctl.spec import MachineSpec, Network
from vmctl.workspace import Machine


class Action(Enum):
    """What `up` does with a machine."""

    CREATE = "create"
    START = "start"
    RESUME = "resume"
    FINISH = "finish"
    """It runs, but an earlier `up` did not get to the end."""
    NOTHING = "nothing"


class Effect(Enum):
    """What it takes to apply a changed field."""

    RELOAD = "reload"
    RECREATE = "recreate"


class Change(Struct, frozen=True):
    """One field that the Vmfile has changed since the machine was last told."""

    field: str
    old: Any
    new: Any
    effect: Effect


class Plan(Struct, frozen=True):
    """What `up` would do with one machine."""

    machine: Machine
    action: Action
    changes: tuple[Change, ...]

    def with_effect(self, effect: Effect) -> tuple[str, ...]:
        """Names of the changed fields that have this effect."""
        return tuple(change.field for change in self.changes if change.effect is effect)


RECREATING = frozenset({"box", "user"})

ACTIONS = {
    None: Action.CREATE,
    State.STOPPED: Action.START,
    State.CRASHED: Action.START,
    State.SAVED: Action.RESUME,
    State.PAUSED: Action.RESUME,
}


def hardware(spec: MachineSpec) -> dict[str, Any]:
    """The fields of a spec that the hypervisor (or the seed) is told, as JSON values; kept in the record."""
    return {
        "box": redaction.urls(str(spec.box)),
        "user": spec.user,
        "ssh_port": spec.ssh_port,
        "cpus": spec.cpus,
        "memory": spec.memory,
        "disk": spec.disk,
        "hostname": spec.hostname,
        "ports": [f"{port.host_ip}:{port.host or 'auto'}:{port.guest}/{port.protocol}" for port in spec.ports],
        "networks": [_network(network) for network in spec.networks],
        "synced_folders": [f"{folder.host}:{folder.guest} {_how(folder)}" for folder in spec.folders],
        "options": {provider: dict(knobs) for provider, knobs in sorted(spec.options.items())},
    }


def _network(network: Network) -> str:
    return f"{network.name} {network.ip}/{network.netmask}{' isolated' if network.isolated else ''}"


def _how(folder: Any) -> str:
    return f"{folder.kind}{' read-only' if folder.read_only else ''}"


def changes(applied: Mapping[str, Any], spec: MachineSpec) -> tuple[Change, ...]:
    """The fields that differ from what the hypervisor was last told."""
    return tuple(
        Change(field, _told(applied[field]), new, Effect.RECREATE if field in RECREATING else Effect.RELOAD)
        for field, new in hardware(spec).items()
        if field in applied and _told(applied[field]) != new
    )


def _told(applied: Any) -> Any:
    """An older vmctl kept a password of the box's address."""
    return redaction.urls(applied) if isinstance(applied, str) else applied


def plan(machine: Machine) -> Plan:
    """What `up` would do with a machine that is in the Vmfile."""
    applied = machine.record.applied if machine.record and machine.observed else {}
    differing = changes(applied, machine.spec) if machine.spec else ()
    default = Action.NOTHING if machine.is_ready else Action.FINISH
    return Plan(machine, ACTIONS.get(machine.state, default), differing)
