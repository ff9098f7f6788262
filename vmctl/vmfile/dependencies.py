"""How ``depends_on:`` is written: a list of machines, or a mapping from machines to how far they must have come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from vmctl.spec import Condition, Dependency
from vmctl.vmfile.faults import Rejected
from vmctl.vmfile.kinds import Kind, Schema, choice
from vmctl.vmfile.names import MachineNames
from vmctl.vmfile.nodes import Node, Table
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import ListOf

CONDITIONS: tuple[Condition, ...] = get_args(Condition)
"""From the earliest to the latest."""
CONDITION = choice(*CONDITIONS)


class _Listed(MachineNames):
    """A name in the list form: whoever writes a mapping there wants the other form."""

    def read(self, node: Node, at: Reading) -> tuple[str, ...]:
        """The machines that the name stands for."""
        if isinstance(node, Table):
            at.reject(node, "expected a machine's name, got a mapping; with conditions, depends_on is one mapping")
        return super().read(node, at)


NAMES = ListOf(_Listed())


class DependsOn(Kind):
    """Machines that others wait for; each item stands for one machine, or for all that its name makes."""

    def read(self, node: Node, at: Reading) -> tuple[tuple[Dependency, ...], ...]:
        """Dependencies, item by item; faults of all items are recorded."""
        if not isinstance(node, Table):
            return tuple(tuple(Dependency(machine=name) for name in names) for names in NAMES.read(node, at))
        found, rejected = [], False
        for entry in node.entries.values():
            try:
                found.append(_conditional(MachineNames().read(entry.key, at), entry.value, at))
            except Rejected:
                rejected = True
        if rejected:
            raise Rejected
        return tuple(found)

    def schema(self) -> Schema:
        """Either form."""
        table = {"type": "object", "additionalProperties": CONDITION.schema()}
        return {"anyOf": [NAMES.schema(), table]}


def _conditional(names: tuple[str, ...], node: Node, at: Reading) -> tuple[Dependency, ...]:
    until = CONDITION.read(node, at)
    return tuple(Dependency(machine=name, until=until) for name in names)


def write(several: Sequence[Dependency]) -> list[str] | dict[str, Any]:
    """The dependencies as a Vmfile would write them."""
    if all(one.until == "ready" for one in several):
        return [one.machine for one in several]
    return {one.machine: one.until for one in several}


def combined(items: Iterable[Iterable[Dependency]]) -> tuple[Dependency, ...]:
    """Each machine once, with the latest of its conditions."""
    found: dict[str, Dependency] = {}
    for item in items:
        for one in item:
            known = found.get(one.machine)
            if known is None or CONDITIONS.index(known.until) < CONDITIONS.index(one.until):
                found[one.machine] = one
    return tuple(found.values())
