"""``vars:``: evaluated in the order in which they use each other, which is any but a circle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmctl.spec import SourceLocation
from vmctl.vmfile.faults import Faults, Rejected, advise
from vmctl.vmfile.nodes import Node, Scalar, Source, Table, from_plain, merge
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.scalars import resolve
from vmctl.vmfile.scope import Scope
from vmctl.vmfile.structures import Free
from vmctl.vmfile.templating import VARIABLES, Templates, variables_in

ENVIRONMENT_PREFIX = "VMCTL_VAR_"
OPTION = "--set"
QUOTES = ("'", '"')
FREE = Free()
Uses = dict[str, set[str]]
"""The other variables that each uses."""


def evaluate(table: Table, scope: Scope, faults: Faults, targets: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of ``vars``, which become part of the scope; those that have none are recorded there, with faults."""
    nodes = {name: entry.value for name, entry in table.entries.items()}
    values: dict[str, Any] = scope.names[VARIABLES]
    at = Reading(faults, Templates(faults, scope).render, targets=targets)
    for name in _in_order(_uses(nodes), nodes, scope, faults):
        try:
            values[name] = FREE.read(nodes[name], at)
        except Rejected:
            scope.rejected.add(name)
    return {name: values[name] for name in nodes if name in values}


def _in_order(uses: Uses, nodes: Mapping[str, Node], scope: Scope, faults: Faults) -> tuple[str, ...]:
    """The variables, each after those that it uses; of those that use themselves one each is a fault and left out."""
    if not any(uses.values()):
        return tuple(nodes)
    from graphlib import CycleError, TopologicalSorter

    while True:
        try:
            return tuple(TopologicalSorter(uses).static_order())
        except CycleError as error:
            circle = _from_first(error.args[1][:0:-1], list(nodes))
            first = circle[0]
            faults.add(nodes[first].place, nodes[first].path, f"uses itself: {' → '.join([*circle, first])}")
            scope.rejected.add(first)
            del uses[first]
            for others in uses.values():
                others.discard(first)


def _from_first(circle: list[str], order: list[str]) -> list[str]:
    start = circle.index(min(circle, key=order.index))
    return circle[start:] + circle[:start]


def _uses(nodes: Mapping[str, Node]) -> Uses:
    found: Uses = {}
    uncertain = []
    for name, node in nodes.items():
        several = [variables_in(leaf.value) for leaf in node.walk() if isinstance(leaf, Scalar) and leaf.is_expression]
        found[name] = {used for used_here, _ in several for used in used_here if used in nodes}
        if any(more for _, more in several):
            uncertain.append(name)
    if uncertain:
        # ``vars[…]`` may be any of those that do not themselves wait for such a one.
        waiting = _users(found, uncertain)
        for name in uncertain:
            found[name] |= nodes.keys() - waiting
    return found


def _users(uses: Uses, names: list[str]) -> set[str]:
    """These variables and all that use one of them, over any number of others."""
    users: Uses = {name: set() for name in uses}
    for name, used in uses.items():
        for one in used:
            users[one].add(name)
    found, rest = set(names), list(names)
    while rest:
        new = users[rest.pop()] - found
        found |= new
        rest += new
    return found


def overridden(table: Table, overrides: Mapping[str, str], environ: Mapping[str, str], faults: Faults) -> Table:
    """``vars`` with VMCTL_VAR_name and then ``--set`` laid above.

    A variable of the environment that the Vmfile does not declare is another project's; ``--set`` of one is a mistake.
    """
    for name in table.entries:
        if (text := environ.get(ENVIRONMENT_PREFIX + name)) is not None:
            table = _laid(table, [name], text, Source(ENVIRONMENT_PREFIX + name, table.source.directory))
    for key, text in overrides.items():
        keys = key.split(".")
        if keys[0] not in table.entries or not all(keys):
            advice = advise(keys[0], table.entries)
            faults.add(SourceLocation(file=f"{OPTION} {key}"), "", f"vars: holds no '{keys[0]}'{advice}")
            continue
        table = _laid(table, keys, text, Source(f"{OPTION} {key}", table.source.directory))
    return table


def _laid(table: Table, keys: list[str], text: str, source: Source) -> Table:
    *parents, last = keys
    value = {last: _typed_value(text)}
    for key in reversed(parents):
        value = {key: value}
    merged = merge(table, from_plain(value, source, "vars"))
    return Table(table.source, table.line, table.column, table.path, merged.entries)


def _typed_value(text: str) -> Any:
    """What was typed, read as a YAML scalar: 8080 is a number, '"8080"' is text."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES:
        return text[1:-1]
    return resolve(text)
