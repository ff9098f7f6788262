"""The provisioners that servers get: the top level's, and a machine's own for servers that stand for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vmctl.spec import ServerProvisioner
from vmctl.vmfile.faults import Faults, Rejected
from vmctl.vmfile.keys import MACHINE
from vmctl.vmfile.machine_groups import MachineGroup, references
from vmctl.vmfile.nodes import Node, Table, uses_machine
from vmctl.vmfile.provision_order import in_order
from vmctl.vmfile.provisioner_keys import WrittenProvisioner
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.scope import Scope, machine_scope
from vmctl.vmfile.templating import Templates

NO_MACHINE = (
    "uses `machine`, which servers do not have; write `remotes: false`, or use inventory_hostname in the playbook"
)
NO_MACHINES = "is about machines, and there are none: neither `machines:` nor `box:`"


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


def refuse_machine_keys(top: Table, faults: Faults) -> None:
    """Without a machine, nothing may be said of machines."""
    for key, entry in top.entries.items():
        if key in MACHINE and key != "provision":
            faults.add(entry.key.place, entry.key.path, NO_MACHINES)
