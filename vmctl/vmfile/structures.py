"""Kinds of values that hold others: lists, mappings, records, and things with a short and a long form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct, field

from vmctl.vmfile.faults import Rejected, describe, unknown_key
from vmctl.vmfile.kinds import Kind, Schema
from vmctl.vmfile.nodes import Node, Scalar, Sequence, Table
from vmctl.vmfile.reading import Reading


class ListOf(Struct, frozen=True):
    """A list, read to a tuple."""

    item: Kind
    most: int = 1000

    def read(self, node: Node, at: Reading) -> tuple[Any, ...]:
        """All items; faults of all of them are recorded."""
        if not isinstance(node, Sequence):
            at.reject(node, f"expected a list, got {_got(node)}{_list_advice(node)}")
        if len(node.items) > self.most:
            at.reject(node, f"more than {self.most} items")
        return tuple(_read_all([(self.item, item) for item in node.items], at))

    def schema(self) -> Schema:
        """An array of the item."""
        return {"type": "array", "items": self.item.schema(), "maxItems": self.most}


class OneOrMore(Struct, frozen=True):
    """A value, or a list of such values; read to a tuple."""

    item: Kind

    def read(self, node: Node, at: Reading) -> tuple[Any, ...]:
        """All of them."""
        found = ListOf(self.item).read(node, at) if isinstance(node, Sequence) else (self.item.read(node, at),)
        if not found:
            at.reject(node, "expected at least one")
        return found

    def schema(self) -> Schema:
        """Either form."""
        return {"anyOf": [self.item.schema(), {**ListOf(self.item).schema(), "minItems": 1}]}


def _got(node: Node) -> str:
    if isinstance(node, Scalar):
        return "an expression" if node.is_expression else describe(node.value)
    return "a list" if isinstance(node, Sequence) else "a mapping"


def _list_advice(node: Node) -> str:
    if isinstance(node, Scalar):
        if node.is_expression:
            return "; only single values can be expressions"
        return "; write [] for none" if node.value is None else f"; write [{node.text}]"
    return ""


def _read_all(pairs: list[tuple[Kind, Node]], at: Reading) -> list[Any]:
    values, rejected = [], False
    for kind, node in pairs:
        try:
            values.append(kind.read(node, at))
        except Rejected:
            rejected = True
    if rejected:
        raise Rejected
    return values


class MapOf(Struct, frozen=True):
    """A mapping of names to values of one kind, read to a dict."""

    item: Kind
    key: str = r"[^\s].*"
    why: str = "expected a name"

    def read(self, node: Node, at: Reading) -> dict[str, Any]:
        """All entries; faults of all of them are recorded."""
        table = as_table(node, at)
        for name, entry in table.entries.items():
            if not re.fullmatch(self.key, name):
                at.add(entry.key, self.why)
        values = _read_all([(self.item, entry.value) for entry in table.entries.values()], at)
        return dict(zip(table.entries, values, strict=True))

    def schema(self) -> Schema:
        """An object with any keys that match."""
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^({self.key})$"},
            "additionalProperties": self.item.schema(),
        }


def as_table(node: Node, at: Reading) -> Table:
    """The node as a mapping; anything else is rejected."""
    if not isinstance(node, Table):
        at.reject(node, f"expected a mapping, got {_got(node)}")
    return node


class Free(Kind):
    """Any value; expressions in its strings are evaluated and keep their type."""

    def read(self, node: Node, at: Reading) -> Any:
        """The value as lists, dicts and scalars."""
        match node:
            case Scalar():
                return at.scalar(node, "a value")
            case Sequence():
                return _read_all([(self, item) for item in node.items], at)
            case Table():
                values = _read_all([(self, entry.value) for entry in node.entries.values()], at)
                return dict(zip(node.entries, values, strict=True))
        raise AssertionError(node)

    def schema(self) -> Schema:
        """Anything."""
        return {}


class FreeMap(Kind):
    """A mapping with any keys and values."""

    def read(self, node: Node, at: Reading) -> dict[str, Any]:
        """The mapping as a dict."""
        values: dict[str, Any] = Free().read(as_table(node, at), at)
        return values

    def schema(self) -> Schema:
        """Any object."""
        return {"type": "object"}


class Checked(Struct, frozen=True):
    """Any value, of whatever shape, that a function finds nothing wrong with."""

    faults: Callable[[Any], Iterable[str]]
    json: Schema
    convert: Callable[[Any], Any] = lambda value: value

    def read(self, node: Node, at: Reading) -> Any:
        """The converted value."""
        value = Free().read(node, at)
        messages = [*self.faults(value)]
        for message in messages:
            at.add(node, message)
        if messages:
            raise Rejected
        return self.convert(value)

    def schema(self) -> Schema:
        """What was said of it."""
        return self.json


class Field(Struct, frozen=True):
    """A key of a record: what it holds and, for the schema and the editor, what it means."""

    kind: Kind
    doc: str
    required: bool = False
    default: Any = None
    """As a Vmfile would write it; for the schema and the manual only."""


Build = Callable[[dict[str, Any], Table, Reading], Any]
"""From the values of a record's keys to one value; may record faults and raise ``Rejected``."""


class TableOf(Struct, frozen=True):
    """A mapping with known keys."""

    fields: Mapping[str, Field]
    build: Build
    exactly_one: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)
    """Keys that people know from elsewhere, and what to write here."""

    def read(self, node: Node, at: Reading) -> Any:
        """The built value, when every key is right."""
        table = as_table(node, at)
        good = check_keys(table, self.fields, at, instead=self.instead) and self._one_of(table, at)
        good = self._complete(table, at) and good
        values = {}
        for key, entry in table.entries.items():
            if key in self.fields:
                try:
                    values[key] = self.fields[key].kind.read(entry.value, at)
                except Rejected:
                    good = False
        if not good:
            raise Rejected
        return self.build(values, table, at)

    def _complete(self, table: Table, at: Reading) -> bool:
        missing = [key for key, field in self.fields.items() if field.required and key not in table.entries]
        for key in missing:
            at.add(table, f"the key '{key}' is missing")
        return not missing

    def _one_of(self, table: Table, at: Reading) -> bool:
        chosen = [key for key in self.exactly_one if key in table.entries]
        if not self.exactly_one or len(chosen) == 1:
            return True
        got = " and ".join(chosen) or "none"
        at.add(table, f"expected exactly one of {', '.join(self.exactly_one)}; got {got}")
        return False

    def schema(self) -> Schema:
        """An object with these keys and no others."""
        schema: Schema = {
            "type": "object",
            "properties": properties(self.fields),
            "additionalProperties": False,
        }
        if required := [key for key, field in self.fields.items() if field.required]:
            schema["required"] = required
        if self.exactly_one:
            schema["oneOf"] = [{"required": [key]} for key in self.exactly_one]
        return schema


def check_keys(
    table: Table,
    known: Mapping[str, Any],
    at: Reading,
    *,
    instead: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Record a fault for every unknown key; whether there were none."""
    good = True
    for key, entry in table.entries.items():
        if key in known:
            continue
        good = False
        at.add(entry.key, f"unknown key; {instead[key]}" if key in instead else unknown_key(key, known))
    return good


def properties(fields: Mapping[str, Field]) -> Schema:
    """The ``properties`` of a schema: each key with its description and default."""
    found = {}
    for key, one in fields.items():
        found[key] = {**one.kind.schema(), "description": one.doc}
        if one.default is not None:
            found[key]["default"] = one.default
    return found


class Either(Struct, frozen=True):
    """A short form (a single value) or a long form (a mapping) of the same thing."""

    short: Kind
    long: Kind
    what: str = "a short or a long form"

    def read(self, node: Node, at: Reading) -> Any:
        """The value, from whichever form was written."""
        if isinstance(node, Sequence):
            at.reject(node, f"expected {self.what}, got a list")
        return (self.long if isinstance(node, Table) else self.short).read(node, at)

    def schema(self) -> Schema:
        """Either form."""
        return {"anyOf": [self.short.schema(), self.long.schema()]}
