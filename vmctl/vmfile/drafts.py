"""Layers into machines: built-in defaults < box defaults < the user's Vmfile < top level < machine.

Mappings merge key by key, anything else is replaced; only ``provision`` of a machine comes after the top level's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field, structs

from vmctl.spec import BoxRef, Network, Port, SourceLocation
from vmctl.vmfile.faults import Faults, Rejected
from vmctl.vmfile.keys import MACHINE
from vmctl.vmfile.kinds import Kind
from vmctl.vmfile.machine_groups import MachineGroup
from vmctl.vmfile.nodes import Node, Sequence, Source, Table, from_plain, join, merge, uses_machine
from vmctl.vmfile.port_keys import HIGHEST
from vmctl.vmfile.provider_keys import is_provider, section
from vmctl.vmfile.provision_order import arranged
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.scope import Scope, machine_scope
from vmctl.vmfile.templating import Templates
from vmctl.vmfile.top_keys import TOP_ONLY

BoxDefaults = Callable[[BoxRef], Mapping[str, Any]]
Layer = Mapping[str, Node]
ELSEWHERE = ("provision", "machines", "count", "for_each", *TOP_ONLY)
"""Keys of the top level and of machines that are read by other means than layers."""


class Boxes(Struct, frozen=True):
    """What boxes say of machines made from them, and which are used in place of what machines say."""

    defaults: BoxDefaults
    instead: BoxRef | None = None
    """For all machines."""
    aliases: Mapping[str, BoxRef] = field(default_factory=dict)
    """By name: ``box_aliases`` of the project's and the user's Vmfile."""
    known: bool = False
    """Whether vmctl's own table counts too, whatever ``alias:`` says (``--alias``)."""


class Draft(Struct):
    """One machine while it is being read. A key whose value was rejected has a node but no value."""

    name: str
    group: MachineGroup
    index: int
    layer: Layer
    values: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Mapping[str, Any]] = field(default_factory=dict)


class Drafter(Struct):
    """Reads machines. A value that no expression makes differ between machines is read once for all of them."""

    faults: Faults
    scope: Scope
    names: Mapping[str, tuple[str, ...]]
    outer: Layer
    """The user's Vmfile and the top level, merged."""
    provision: Node | None
    """The top level's provisioners."""
    boxes: Boxes
    targets: tuple[str, ...] = ()
    """The names below ``remotes:``."""
    memory: dict[tuple[str, int], Any] = field(default_factory=dict)
    defaults: dict[BoxRef, Layer] = field(default_factory=dict)

    def drafts(self, group: MachineGroup) -> Iterator[Draft]:
        """The machines of a group, in order."""
        own = machine_layer(group.table)
        layers: dict[BoxRef | None, Layer] = {}
        for index, name in enumerate(group.members, 1):
            at = self._reading(name, group, index)
            box, alias, by = self._box(group, own, at)
            if box not in layers:
                layers[box] = merged(self._box_layer(box), self.outer, own)
            draft = Draft(name, group, index, layers[box])
            if box:
                draft.values["box"] = box
                draft.values |= {"box_alias": alias, "box_alias_by": by}
            self._fill(draft, at)
            yield draft

    def unused(self, drafts: list[Draft]) -> None:
        """Look for faults in outer values that every machine replaces."""
        used = {id(node) for draft in drafts for node in draft.layer.values()}
        for key, node in self.outer.items():
            if id(node) not in used and drafts:
                first = drafts[0]
                self._read(key, _kind(key), node, self._reading(first.name, first.group, first.index))

    def _reading(self, name: str, group: MachineGroup, index: int) -> Reading:
        scope = machine_scope(self.scope, name, group.name, index, group.each[index - 1] if group.each else None)
        return Reading(self.faults, Templates(self.faults, scope).render, self.names, self.targets)

    def _box(self, group: MachineGroup, own: Layer, at: Reading) -> tuple[BoxRef | None, str, str]:
        """The box; how the Vmfile writes the one whose place an alias gave it, and what says so ("" = no alias did)."""
        node = own.get("box") or self.outer.get("box")
        if node is not None:
            box: BoxRef | None = self._read("box", MACHINE["box"].kind, node, at)
            if self.boxes.instead or box is None:
                return self.boxes.instead or box, "", ""
            target, by = self._in_place_of(box, own, at)
            signed = self._signed(target or box, own, at)
            return (signed, str(box), by) if target else (signed, "", "")
        where = " (here or at the top level)" if group.key.path else ""
        self.faults.add(group.key.place, group.key.path, f"the key 'box' is missing{where}")
        return None, "", ""

    def _in_place_of(self, box: BoxRef, own: Layer, at: Reading) -> tuple[BoxRef | None, str]:
        """What an alias puts in place of a box, and which alias; what people write themselves goes first."""
        if target := self.boxes.aliases.get(box.address):
            return target, "box_aliases"
        node = own.get("alias") or self.outer.get("alias")
        wanted = node is not None and self._read("alias", MACHINE["alias"].kind, node, at)
        if not (wanted or self.boxes.known):
            return None, ""
        from vmctl.boxes import aliases

        known = aliases.proposed(box.address)
        by = "alias: true" if wanted else "--alias"
        return (BoxRef(address=known.target), f"{by}, {known.what}") if known else (None, "")

    def _signed(self, box: BoxRef, own: Layer, at: Reading) -> BoxRef:
        """The box, with the key that must have signed it."""
        node = own.get("box_key") or self.outer.get("box_key")
        path = self._read("box_key", MACHINE["box_key"].kind, node, at) if node is not None else None
        if node is None or path is None:
            return box
        if not box.address.startswith("oci://"):
            what = f"only boxes of registries (oci://…) have signatures; {box} is none"
            self.faults.add(node.place, node.path, what)
        return structs.replace(box, key=str(path))

    def _box_layer(self, box: BoxRef | None) -> Layer:
        if box is None:
            return {}
        if box not in self.defaults:
            table = from_plain(
                self.boxes.defaults(box), Source(f"box {box}", Path(self.scope.names["project"]["root"]))
            )
            self.defaults[box] = {key: entry.value for key, entry in table.entries.items()}
        return self.defaults[box]

    def _fill(self, draft: Draft, at: Reading) -> None:
        for key, node in draft.layer.items():
            if key in ("box", "alias"):
                continue
            value = self._read(key, _kind(key), node, at)
            if value is None:
                continue
            if key in MACHINE:
                draft.values[key] = value
            else:
                draft.options[key] = value
        self._provision(draft, at)
        if draft.group.counted and draft.index > 1:
            self._shift(draft)

    def _provision(self, draft: Draft, at: Reading) -> None:
        """The top level's provisioners, then the machine's own."""
        lists = [node for node in (self.provision, draft.group.table.get("provision")) if node is not None]
        read = [self._read("provision", MACHINE["provision"].kind, node, at) for node in lists]
        draft.values["provision"] = arranged(draft.name, [items for items in read if items is not None], at)

    def _read(self, key: str, kind: Kind, node: Node, at: Reading) -> Any:
        """The value; None when it was rejected."""
        remembered = (key, id(node))
        if remembered in self.memory:
            return self.memory[remembered]
        try:
            value = kind.read(node, at)
        except Rejected:
            value = None
        if not uses_machine(node):
            self.memory[remembered] = value
        return value

    def _shift(self, draft: Draft) -> None:
        """Give the second, third, … machine of a count the next host ports and addresses."""
        by = draft.index - 1
        for key, shift in (("ports", self._next_port), ("networks", self._next_address)):
            node = draft.layer.get(key)
            if isinstance(node, Sequence) and key in draft.values:
                draft.values[key] = tuple(
                    value if uses_machine(item) else shift(value, by, item)
                    for item, value in zip(node.items, draft.values[key], strict=True)
                )

    def _next_port(self, port: Port, by: int, node: Node) -> Port:
        if port.host is None:
            return port
        if port.host + by > HIGHEST:
            self.faults.add(node.place, node.path, f"the machines of this count need host ports above {HIGHEST}")
            return structs.replace(port, host=None)
        return structs.replace(port, host=port.host + by)

    def _next_address(self, network: Network, by: int, _node: Node) -> Network:
        if network.ip is None:
            return network
        return structs.replace(network, ip=str(ipaddress.IPv4Address(network.ip) + by))


def _kind(key: str) -> Kind:
    return MACHINE[key].kind if key in MACHINE else section(key)


def machine_layer(table: Table) -> Layer:
    """What a mapping says about machines: the keys of a machine, and mappings named as a provider."""
    return {
        key: entry.value
        for key, entry in table.entries.items()
        if key not in ELSEWHERE and (key in MACHINE or is_provider(key))
    }


def merged(*layers: Layer) -> Layer:
    """Layers laid above each other, the last one on top."""
    result: dict[str, Node] = {}
    for layer in layers:
        for key, node in layer.items():
            result[key] = merge(result.get(key), node)
    return result


def places(layer: Layer) -> dict[str, SourceLocation]:
    """Where every value below a machine was written, by its dotted path."""
    found: dict[str, SourceLocation] = {}

    def visit(path: str, node: Node) -> None:
        found[path] = node.place
        if isinstance(node, Sequence):
            for number, item in enumerate(node.items):
                visit(join(path, number), item)
        elif isinstance(node, Table):
            for key, entry in node.entries.items():
                visit(join(path, key), entry.value)

    for key, node in layer.items():
        visit(key, node)
    return found
