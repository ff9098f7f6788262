"""The entries of ``machines:`` and the machines that each makes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from vmctl.spec import DEFAULT_MACHINE
from vmctl.vmfile.expansion import Each
from vmctl.vmfile.faults import Rejected
from vmctl.vmfile.keys import COUNT, FOR_EACH
from vmctl.vmfile.names import PATTERN, RESERVED, WHY
from vmctl.vmfile.nodes import Node, Scalar, Table
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import as_table


class MachineGroup(Struct, frozen=True, kw_only=True):
    """One entry of ``machines:``."""

    name: str
    key: Node
    """Where the name stands; the whole file, when there is no ``machines:``."""
    table: Table
    members: tuple[str, ...]
    counted: bool = False
    each: tuple[Each, ...] = ()
    """What ``for_each`` says of each member; empty without it."""


def groups(top: Table, at: Reading) -> tuple[MachineGroup, ...]:
    """All entries, faults recorded; without ``machines:`` one machine ``default``, unless there are just servers."""
    node = top.get("machines")
    if node is None and "remotes" in top.entries and "box" not in top.entries:
        return ()  # servers alone
    if node is None:
        empty = Table(top.source, top.line, top.column, "", {})
        return (MachineGroup(name=DEFAULT_MACHINE, key=empty, table=empty, members=(DEFAULT_MACHINE,)),)
    try:
        found = tuple(_entries(as_table(node, at), at))
    except Rejected:
        return ()
    if not as_table(node, at).entries:
        at.add(node, "holds no machine; without the key there is one, 'default'")
    _check_members(found, at)
    return found


def _entries(table: Table, at: Reading) -> Iterator[MachineGroup]:
    for name, entry in table.entries.items():
        if not re.fullmatch(PATTERN, name):
            at.add(entry.key, WHY)
        elif name in RESERVED:
            at.add(entry.key, f"'{name}' is a reserved name")
        try:
            own = _own(entry.value, at)
        except Rejected:
            continue
        yield _group(name, entry.key, own, at)


def _own(node: Node, at: Reading) -> Table:
    """What stands below a machine's name; nothing is as good as an empty mapping."""
    if isinstance(node, Scalar) and node.value is None:
        return Table(node.source, node.line, node.column, node.path, {})
    return as_table(node, at)


def _group(name: str, key: Node, own: Table, at: Reading) -> MachineGroup:
    if "for_each" not in own.entries:
        return MachineGroup(
            name=name, key=key, table=own, members=_members(name, own, at), counted="count" in own.entries
        )
    if "count" in own.entries:
        at.add(own.entries["count"].key, "count and for_each exclude each other")
    try:
        each: tuple[Each, ...] = FOR_EACH.kind.read(own.entries["for_each"].value, at)
    except Rejected:
        each = (Each("1", "1"),)  # so that the other keys of the machine are checked
    return MachineGroup(name=name, key=key, table=own, members=tuple(f"{name}-{one.key}" for one in each), each=each)


def _members(name: str, own: Table, at: Reading) -> tuple[str, ...]:
    node = own.get("count")
    if node is None:
        return (name,)
    try:
        count: int = COUNT.kind.read(node, at)
    except Rejected:
        return (f"{name}-1",)
    return tuple(f"{name}-{number}" for number in range(1, count + 1))


def _check_members(found: tuple[MachineGroup, ...], at: Reading) -> None:
    owners: dict[str, MachineGroup] = {}
    for group in found:
        for member in group.members:
            if member in owners:
                at.add(group.key, f"the machine '{member}' is made by '{owners[member].name}' too")
                break
            owners[member] = group
        longest = max(reversed(group.members), key=len)
        if len(longest) > len(group.name) and re.fullmatch(PATTERN, group.name) and not re.fullmatch(PATTERN, longest):
            at.add(group.key, f"'{longest}': {WHY}")


def references(found: tuple[MachineGroup, ...]) -> Mapping[str, tuple[str, ...]]:
    """What a name in ``depends_on`` or in an inventory group stands for."""
    single = {member: (member,) for group in found for member in group.members}
    return {**single, **{group.name: group.members for group in found}}
