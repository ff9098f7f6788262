"""The provisioners of one machine, or of servers: named, put into order, and without those that are not for it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from vmctl.provisioners import Ansible, File, Provisioner, Reboot, Shell
from vmctl.spec import ServerProvisioner
from vmctl.vmfile.faults import Faults, Rejected, advise
from vmctl.vmfile.keys import MACHINE
from vmctl.vmfile.machine_groups import MachineGroup, references
from vmctl.vmfile.nodes import Node, Table, uses_machine
from vmctl.vmfile.provisioner_keys import WrittenProvisioner
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.scope import Scope, machine_scope
from vmctl.vmfile.templating import Templates

NO_MACHINE = (
    "uses `machine`, which servers do not have; write `remotes: false`, or use inventory_hostname in the playbook"
)


@dataclass
class _Entry:
    """A named provisioner and the names of those that come before it."""

    name: str
    written: WrittenProvisioner
    earlier: set[str] = field(default_factory=set)


def arranged(machine: str, lists: Sequence[Sequence[WrittenProvisioner]], at: Reading) -> tuple[Provisioner, ...]:
    """The machine's provisioners in their order, each with a name that no other has.

    A list is named before the next one is looked at, so that the top level's have the same names on every machine;
    and what does not apply to this machine is left out only then.
    """
    return tuple(
        item
        for item, written in in_order(lists, at)
        if written.applies and (written.machines is None or machine in written.machines)
    )


def in_order(
    lists: Sequence[Sequence[WrittenProvisioner]], at: Reading
) -> list[tuple[Provisioner, WrittenProvisioner]]:
    """All provisioners in their order, each with its name, whomever they are for."""
    entries: list[_Entry] = []
    for items in lists:
        entries += _named(items, {entry.name for entry in entries}, at)
    _connect(entries, at)
    return [(structs.replace(entry.written.item, name=entry.name), entry.written) for entry in _sorted(entries, at)]


def _named(items: Sequence[WrittenProvisioner], taken: set[str], at: Reading) -> list[_Entry]:
    taken = set(taken)
    for written in items:
        if written.item.name and written.item.name in taken:
            at.add(_key(written, "name"), f"there is already a provisioner '{written.item.name}'")
        taken.add(written.item.name)
    found = []
    for written in items:
        name = written.item.name or _free_name(written.item, taken)
        taken.add(name)
        found.append(_Entry(name, written))
    return found


def _key(written: WrittenProvisioner, key: str) -> Node:
    return written.table.get(key) or written.table


def _free_name(item: Provisioner, taken: set[str]) -> str:
    """The file's name without its ending; a number is added where that is taken, and always to what has no file."""
    path = _file_of(item)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:40] if path else ""
    if stem and stem not in taken:
        return stem
    stem = stem or type(item).__name__.lower()
    if isinstance(item, Reboot) and stem not in taken:
        return stem
    first = 2 if path or isinstance(item, Reboot) else 1
    return next(name for number in itertools.count(first) if (name := f"{stem}-{number}") not in taken)


def _file_of(item: Provisioner) -> Path | None:
    match item:
        case Ansible():
            return item.playbook
        case File():
            return item.source
        case Shell(script=Path() as script):
            return script
        case Shell(url=str() as url):
            return Path(url.partition("?")[0])
    return None


def _connect(entries: Sequence[_Entry], at: Reading) -> None:
    """Enter what ``before`` and ``after`` say; names that nothing has are faults."""
    by_name = {entry.name: entry for entry in entries}
    for entry in entries:
        for key, names in (("before", entry.written.before), ("after", entry.written.after)):
            for name in names:
                if name not in by_name:
                    at.add(
                        _key(entry.written, key),
                        f"there is no provisioner '{name}' on this machine{advise(name, by_name)}",
                    )
                elif key == "before":
                    by_name[name].earlier.add(entry.name)
                else:
                    entry.earlier.add(name)


def _sorted(entries: Sequence[_Entry], at: Reading) -> list[_Entry]:
    """As written, but what an entry waits for is brought forward to just before it; circles are faults."""
    by_name = {entry.name: entry for entry in entries}
    done: dict[str, _Entry] = {}

    def place(entry: _Entry, path: tuple[str, ...]) -> None:
        if entry.name in path:
            circle = [*path[path.index(entry.name) :], entry.name][::-1]
            node = _key(entry.written, "before" if entry.written.before else "after")
            at.add(node, f"provisioners wait for each other: {' → '.join(circle)}")
            return
        for other in entries:
            if other.name in entry.earlier and other.name not in done:
                place(by_name[other.name], (*path, entry.name))
        done.setdefault(entry.name, entry)

    for entry in entries:
        place(entry, ())
    return list(done.values())


def for_servers(
    top: Table, found: tuple[MachineGroup, ...], scope: Scope, faults: Faults, targets: tuple[str, ...]
) -> tuple[ServerProvisioner, ...]:
    """What servers get, in order.

    Entries have the same names and places as on machines: all are read, as if for a machine, then those for machines
    only are left out.
    """

    def reading(group: MachineGroup) -> Reading:
        each = group.each[0] if group.each else None
        inner = machine_scope(scope, group.members[0], group.name, 1, each)
        return Reading(faults, Templates(faults, inner).render, references(found), targets)

    at = reading(found[0] if found else MachineGroup(name="server", key=top, table=top, members=("server",)))
    outer = _read(top.get("provision"), at)
    chosen = [*_kept(outer, (), None, at)]
    for group in found:
        at = reading(group)
        if own := _read(group.table.get("provision"), at):
            chosen += _kept(outer, own, group.members, at)
    return tuple(chosen)


def _read(node: Node | None, at: Reading) -> tuple[WrittenProvisioner, ...]:
    try:
        written: tuple[WrittenProvisioner, ...] = MACHINE["provision"].kind.read(node, at) if node else ()
    except Rejected:
        return ()
    return written


def _kept(
    outer: Sequence[WrittenProvisioner], own: Sequence[WrittenProvisioner], members: tuple[str, ...] | None, at: Reading
) -> Iterator[ServerProvisioner]:
    """Those of one list; one whose values differ from machine to machine must say that it is for machines."""
    wanted = {id(written) for written in (outer if members is None else own)}
    for item, written in in_order([outer, own], at):
        if id(written) not in wanted or item.remotes == ():
            continue
        if uses_machine(written.table):
            at.add(written.table, NO_MACHINE)
        machines = written.machines
        if members is not None:
            machines = members if machines is None else tuple(name for name in members if name in machines)
        if written.applies:
            yield ServerProvisioner(provisioner=item, machines=machines)
