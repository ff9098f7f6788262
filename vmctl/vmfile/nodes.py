"""The tree that a Vmfile's text becomes: scalars, lists and mappings, each of which knows its place and path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, overload

from msgspec import Struct

from vmctl.spec import SourceLocation

EXPRESSION = "{{"
OWN_NAMES = re.compile(r"machine|(?<![.\w])each\b")
STATEMENT = "{%"  # may be text (``printf '{%s}'``); templating decides


class Source(Struct, frozen=True):
    """Where nodes come from: a file as messages name it, and the directory that its relative paths start from."""

    name: str
    directory: Path


class Node(Struct, eq=False):
    """A value with its place. ``line`` 0 = not from a file."""

    source: Source
    line: int
    column: int
    path: str

    @property
    def is_expression(self) -> bool:
        """Whether the value is known only after templating."""
        return False

    @property
    def place(self) -> SourceLocation:
        """Where the value was written."""
        return SourceLocation(file=self.source.name, line=self.line, column=self.column)

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self


class Scalar(Node, eq=False):
    """A single value: None, bool, int, float or str. ``text`` is what was written, without quotes."""

    value: Any
    text: str

    @property
    def is_expression(self) -> bool:
        """Whether the value is known only after templating."""
        return isinstance(self.value, str) and (EXPRESSION in self.value or STATEMENT in self.value)


class Sequence(Node, eq=False):
    """A list."""

    items: tuple[Node, ...]

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for item in self.items:
            yield from item.walk()


class TableEntry(Struct, eq=False):
    """A key of a mapping (a scalar whose path is the value's) and its value."""

    key: Scalar
    value: Node


class Table(Node, eq=False):
    """A mapping."""

    entries: Mapping[str, TableEntry]

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for entry in self.entries.values():
            yield from entry.value.walk()

    def get(self, key: str) -> Node | None:
        """The value of a key."""
        entry = self.entries.get(key)
        return entry.value if entry else None


def join(path: str, key: str | int) -> str:
    """The path of what lies under ``key``."""
    return f"{path}.{key}" if path else str(key)


def plain(node: Node) -> Any:
    """The values below a node as they were written, untemplated."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [plain(item) for item in node.items]
        case Table():
            return {key: plain(entry.value) for key, entry in node.entries.items()}
    raise AssertionError(node)


@overload
def from_plain(value: Mapping[str, Any], source: Source, path: str = "") -> Table: ...
@overload
def from_plain(value: Any, source: Source, path: str = "") -> Node: ...
def from_plain(value: Any, source: Source, path: str = "") -> Node:
    """Nodes for values that no file holds (a box's defaults, ``--set``)."""
    match value:
        case Mapping():
            entries = {}
            for key, item in value.items():
                below = join(path, key)
                entries[str(key)] = TableEntry(
                    Scalar(source, 0, 0, below, str(key), str(key)), from_plain(item, source, below)
                )
            return Table(source, 0, 0, path, entries)
        case list() | tuple():
            items = tuple(from_plain(item, source, join(path, number)) for number, item in enumerate(value))
            return Sequence(source, 0, 0, path, items)
        case _:
            return Scalar(source, 0, 0, path, value, str(value))


@overload
def merge(base: Table, over: Table) -> Table: ...
@overload
def merge(base: Node | None, over: Node) -> Node: ...
def merge(base: Node | None, over: Node) -> Node:
    """Lay ``over`` above ``base``: mappings merge key by key, anything else is replaced."""
    if not (isinstance(base, Table) and isinstance(over, Table)):
        return over
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        below = entries.get(key)
        entries[key] = TableEntry(entry.key, merge(below.value if below else None, entry.value))
    return Table(over.source, over.line, over.column, over.path, entries)


def uses_machine(node: Node) -> bool:
    """Whether an expression below the node names ``machine`` or ``each``: its value then differs between machines."""
    return any(
        isinstance(leaf, Scalar)
        and (leaf.is_expression or leaf.path.endswith(".when"))
        and OWN_NAMES.search(leaf.text) is not None
        for leaf in node.walk()
    )
