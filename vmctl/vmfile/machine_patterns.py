"""Machines named by name, by the key of a ``count`` or by a pattern (``web-*``); inventory groups made of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vmctl import patterns
from vmctl.vmfile.faults import Rejected, advise, describe
from vmctl.vmfile.kinds import EXPRESSION_SCHEMA, Kind, Schema
from vmctl.vmfile.nodes import Node, Scalar, Sequence, Table
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Field, FreeMap, TableOf, as_table, check_keys

GROUP = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
GROUP_WHY = "a group's name has letters, digits, '_', '.' and '-', and starts with none of the last two"
FREE_MAP = FreeMap()
NAMED: Schema = {"anyOf": [{"type": ["string", "integer"]}, EXPRESSION_SCHEMA]}


REGULAR = "regular expressions are for the command line; write names, web-* or web-[1:3]"


def read_machines(nodes: Iterable[Node], at: Reading, *, also: Iterable[str] = ()) -> tuple[str, ...]:
    """The machines that several patterns stand for together, and the texts themselves that are one of ``also``.

    Faults of all are recorded.
    """
    parts: list[str] = []
    others: list[str] = []
    rejected = False
    for node in nodes:
        try:
            text = _text(node, at)
            if text in also and text not in at.names:
                others.append(text)
                continue
            _check(node, text, at, also)
            parts += patterns.split(text)
        except Rejected:
            rejected = True
    if rejected:
        raise Rejected
    return (*patterns.select(parts, at.names), *others) if parts else tuple(others)


def _text(node: Node, at: Reading) -> str:
    value = at.scalar(node, "a machine's name or a pattern")
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not patterns.split(text):
        at.reject_value(node, f"expected a machine's name, got {describe(value)}")
    return text


def _check(node: Node, text: str, at: Reading, also: Iterable[str]) -> None:
    """Whether every part of a pattern means something."""
    for part in patterns.split(text):
        name = part.lstrip("!&")
        if name.startswith("~"):
            at.reject_value(node, REGULAR)
        try:
            patterns.meant(name, at.names)
        except patterns.BadPattern as error:
            why = f" ({error})" if "[" in name else advise(name, [*at.names, *also])
            at.reject_value(node, f"there is no machine {describe(name)}{why}")


class MachinePatterns(Kind):
    """A list of names and patterns (or a single one), read to the machines that they stand for."""

    def read(self, node: Node, at: Reading) -> tuple[str, ...]:
        """The machines, each once."""
        found = read_machines(node.items if isinstance(node, Sequence) else (node,), at)
        if not found and not (isinstance(node, Sequence) and not node.items):
            at.reject(node, "leaves no machine")
        return found

    def schema(self) -> Schema:
        """Any text, or a list of them."""
        return {"anyOf": [NAMED, {"type": "array", "items": NAMED}]}


class HostVars(Kind):
    """Variables by machine; a pattern gives them to all machines that match."""

    def read(self, node: Node, at: Reading) -> dict[str, dict[str, Any]]:
        """Variables of each machine; what is written later wins."""
        found: dict[str, dict[str, Any]] = {}
        for entry in as_table(node, at).entries.values():
            values = FREE_MAP.read(entry.value, at)
            for name in read_machines((entry.key,), at):
                found[name] = {**found.get(name, {}), **values}
        return found

    def schema(self) -> Schema:
        """An object of objects."""
        return {"type": "object", "additionalProperties": {"type": "object"}}


class Members(Kind):
    """A list of machines and groups, as ``Groups`` reads it."""

    def read(self, node: Node, at: Reading) -> tuple[str, ...]:
        """The machines; groups are known to ``Groups`` only."""
        return _members(node, at, also=())

    def schema(self) -> Schema:
        """A list of any text."""
        return {"type": "array", "items": NAMED}


MEMBERS = Members()
GROUP_FIELDS = {
    "hosts": Field(MEMBERS, "Machines, by name or pattern.", default=[]),
    "children": Field(MEMBERS, "Other groups.", default=[]),
    "vars": Field(FREE_MAP, "The group's variables.", default={}),
}


class Groups(Kind):
    """Inventory groups: a list of members, or a mapping with ``hosts``, ``children`` and ``vars``.

    Read to a pair: members (machines' names and names of other groups) and variables, each by group.
    """

    long = TableOf(GROUP_FIELDS, lambda values, _table, _at: values)

    def read(self, node: Node, at: Reading) -> tuple[dict[str, tuple[str, ...]], dict[str, dict[str, Any]]]:
        """Members and variables; faults of all groups are recorded."""
        table = as_table(node, at)
        members: dict[str, tuple[str, ...]] = {}
        variables: dict[str, dict[str, Any]] = {}
        rejected = False
        for name, entry in table.entries.items():
            if not _is_group_name(name):
                at.add(entry.key, _group_advice(name))
                rejected = True
                continue
            try:
                members[name], own = _group(entry.value, table, at)
            except Rejected:
                rejected = True
                continue
            if own:
                variables[name] = own
        if rejected:
            raise Rejected
        return members, variables

    def schema(self) -> Schema:
        """An object with groups."""
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^({GROUP})$"},
            "additionalProperties": {"anyOf": [MEMBERS.schema(), self.long.schema()]},
        }


def _is_group_name(name: str) -> bool:
    import re

    return re.fullmatch(GROUP, name) is not None


def _group_advice(name: str) -> str:
    group, colon, part = name.partition(":")
    return f"write {group}: {{{part}: …}}" if colon and part in GROUP_FIELDS else GROUP_WHY


def _group(node: Node, groups: Table, at: Reading) -> tuple[tuple[str, ...], dict[str, Any]]:
    """One group's members and variables."""
    if not isinstance(node, Table):
        return _members(node, at, also=groups.entries), {}
    good = check_keys(node, GROUP_FIELDS, at)
    members: tuple[str, ...] = ()
    for key, also in (("hosts", ()), ("children", groups.entries)):
        if part := node.get(key):
            members += _members(part, at, also=also)
    own = FREE_MAP.read(part, at) if (part := node.get("vars")) else {}
    if not good:
        raise Rejected
    return tuple(dict.fromkeys(members)), own


def _members(node: Node, at: Reading, *, also: Iterable[str]) -> tuple[str, ...]:
    if not isinstance(node, Sequence):
        advice = f"; write [{node.text}]" if isinstance(node, Scalar) and node.value is not None else ""
        at.reject(node, f"expected a list of machines and groups{advice}")
    return read_machines(node.items, at, also=also)
