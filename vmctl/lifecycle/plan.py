"""What `up` would do: observed state and spec → an action and the fields that differ. Pure data; changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from typing import Any

from msgspec import Struct

from vmctl import redaction
from vmctl.driver import State
from vmctl.spec import Effect, MachineSpec
from vmctl.vmfile.keys import MACHINE
from vmctl.workspace import Machine


class Action(Enum):
    """What `up` does with a machine."""

    CREATE = "create"
    START = "start"
    RESUME = "resume"
    FINISH = "finish"
    """It runs, but an earlier `up` did not get to the end."""
    ADAPT = "adapt"
    """It runs, and goes on with what changed in the Vmfile."""
    NOTHING = "nothing"


class Change(Struct, frozen=True):
    """One field that the Vmfile has changed since the machine was last told."""

    field: str
    old: Any
    new: Any
    effect: Effect

    def parts(self) -> Iterator[tuple[str, Any, Any]]:
        """What has changed as the Vmfile writes it, old and new: a provider's settings one by one (`libvirt.cpu`)."""
        if self.field != OPTIONS:
            yield self.field, self.old, self.new
            return
        for provider in sorted({*self.old, *self.new}):
            old, new = self.old.get(provider, {}), self.new.get(provider, {})
            for knob in sorted({*old, *new}):
                if old.get(knob) != new.get(knob):
                    yield f"{provider}.{knob}", old.get(knob), new.get(knob)


class Plan(Struct, frozen=True):
    """What `up` would do with one machine."""

    machine: Machine
    action: Action
    changes: tuple[Change, ...]

    def with_effect(self, effect: Effect) -> tuple[str, ...]:
        """What has changed and has this effect, as the Vmfile writes it."""
        return tuple(name for change in self.changes if change.effect is effect for name, _, _ in change.parts())


OPTIONS = "options"
"""The field that holds what is written below the providers' own names."""

RECREATING = frozenset(key for key, one in MACHINE.items() if one.effect is Effect.RECREATE)

LIVE = frozenset({"ports"})
"""What some hypervisors can change while the machine runs (``vmctl.powers.LiveForwards``)."""

ACTIONS = {
    None: Action.CREATE,
    State.STOPPED: Action.START,
    State.CRASHED: Action.START,
    State.SAVED: Action.RESUME,
    State.PAUSED: Action.RESUME,
}


def hardware(spec: MachineSpec) -> dict[str, Any]:
    """The fields of a spec that the hypervisor (or the seed) is told, as JSON values; kept in the record."""
    applied = {key: one.record(getattr(spec, one.attribute or key)) for key, one in MACHINE.items() if one.effect}
    return {**applied, OPTIONS: {provider: dict(knobs) for provider, knobs in sorted(spec.options.items())}}


def changes(applied: Mapping[str, Any], spec: MachineSpec, live: Collection[str] = ()) -> tuple[Change, ...]:
    """The fields that differ from what the hypervisor was last told; ``live`` are those that `up` applies."""
    return tuple(
        Change(field, _without_login(applied[field]), new, _effect(field, live))
        for field, new in hardware(spec).items()
        if field in applied and _without_login(applied[field]) != new
    )


def _effect(field: str, live: Collection[str]) -> Effect:
    if field in live:
        return Effect.UP
    return Effect.RECREATE if field in RECREATING else Effect.RELOAD


def _without_login(applied: Any) -> Any:
    """An older vmctl kept a password of the box's address."""
    return redaction.urls(applied) if isinstance(applied, str) else applied


def _at_once(machine: Machine, applied: Mapping[str, Any]) -> Collection[str]:
    """The fields that `up` itself applies: starting a machine that is off tells its hypervisor all of them."""
    if ACTIONS.get(machine.state) is Action.START:
        return [field for field in applied if field not in RECREATING]
    return LIVE if machine.live_forwards and machine.is_ready else ()


def plan(machine: Machine) -> Plan:
    """What `up` would do with a machine that is in the Vmfile."""
    applied = machine.record.applied if machine.record and machine.observed else {}
    differing = changes(applied, machine.spec, _at_once(machine, applied)) if machine.spec else ()
    default = Action.NOTHING if machine.is_ready else Action.FINISH
    if any(change.effect is Effect.UP for change in differing):
        default = Action.ADAPT
    return Plan(machine, ACTIONS.get(machine.state, default), differing)
