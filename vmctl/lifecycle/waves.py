"""Which machines come up and are provisioned together: one that waits for another's provisioning comes after it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vmctl.lifecycle.outcome import Outcome
from vmctl.spec import MachineSpec
from vmctl.workspace import Machine


def waves(machines: Sequence[Machine]) -> list[list[Machine]]:
    """The machines in as few waves as `until: provisioned` allows, in their own order within each.

    Only conditions on machines that are among them count.
    """
    number = dict.fromkeys((machine.name for machine in machines), 0)
    moved = True
    while moved:  # ends, for dependencies have no circle
        moved = False
        for machine in machines:
            least = _least(machine.spec, number)
            if least > number[machine.name]:
                number[machine.name], moved = least, True
    found: dict[int, list[Machine]] = {}
    for machine in machines:
        found.setdefault(number[machine.name], []).append(machine)
    return [found[each] for each in sorted(found)]


def _least(spec: MachineSpec | None, number: Mapping[str, int]) -> int:
    """The earliest wave for a machine, given those of the others."""
    needs = [one for one in (spec.depends_on if spec else ()) if one.machine in number]
    return max((number[one.machine] + (one.until == "provisioned") for one in needs), default=0)


def sift(wave: Sequence[Machine], outcome: Outcome) -> list[Machine]:
    """The machines of a wave that can begin; the others are noted as not attempted, with those that depend on them."""
    able = list(wave)
    while True:
        why = {machine.name: lost_need(machine.spec, outcome.lost, outcome.unprovisioned) for machine in able}
        lost = {name: reason for name, reason in why.items() if reason}
        if not lost:
            return able
        outcome.skipped |= lost
        able = [machine for machine in able if machine.name not in lost]


def lost_need(spec: MachineSpec | None, lost: Collection[str], unprovisioned: Collection[str]) -> str:
    """Why a machine cannot begin, given those that did not come up or whose provisioning failed; "" = it can."""
    for one in spec.depends_on if spec else ():
        if one.machine in lost:
            return f"it depends on {one.machine}"
        if one.until == "provisioned" and one.machine in unprovisioned:
            return f"it waits for {one.machine} to be provisioned"
    return ""
