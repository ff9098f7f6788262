"""How ``for_each:`` is written: a list of keys, or a mapping from keys to values; one machine for each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from vmctl.vmfile.faults import Rejected, describe
from vmctl.vmfile.kinds import EXPRESSION_SCHEMA, Kind, Schema
from vmctl.vmfile.nodes import Node, Scalar, Sequence, Table
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Free

KEY = r"[a-z0-9][a-z0-9-]{0,28}"
KEY_WHY = "a key becomes part of a machine's name: a-z, 0-9 and '-', with a letter or digit first"
MOST = 1000
WHAT = "a list of keys, or a mapping"


class Each(Struct, frozen=True):
    """What makes one machine of a ``for_each`` different from the others."""

    key: str
    value: Any
    """The key again, where a list was written."""


class ForEach(Kind):
    """The keys and values, in order; an expression may give them."""

    def read(self, node: Node, at: Reading) -> tuple[Each, ...]:
        """One entry for each machine; faults of all are recorded."""
        found: list[Each] = []
        rejected = False
        for place, key, value in _pairs(node, at):
            try:
                found.append(_checked(place, key, value, found, at))
            except Rejected:
                rejected = True
        if rejected:
            raise Rejected
        if not 0 < len(found) <= MOST:
            at.reject(node, "holds no key, so that it would make no machine" if not found else f"more than {MOST} keys")
        return tuple(found)

    def schema(self) -> Schema:
        """A list or a mapping."""
        keys = {"type": ["string", "integer"], "pattern": f"^({KEY})$"}
        listed = {"type": "array", "items": {"anyOf": [keys, EXPRESSION_SCHEMA]}, "minItems": 1, "maxItems": MOST}
        table = {"type": "object", "propertyNames": {"pattern": f"^({KEY})$"}, "minProperties": 1}
        return {"anyOf": [listed, table, EXPRESSION_SCHEMA]}


FREE = Free()


def _pairs(node: Node, at: Reading) -> Iterator[tuple[Node, Any, Any]]:
    """Where each entry stands, its key and its value; nodes that are still to be read among them."""
    match node:
        case Sequence():
            yield from ((item, item, None) for item in node.items)
        case Table():
            yield from ((entry.key, name, entry.value) for name, entry in node.entries.items())
        case Scalar() if node.is_expression:
            yield from _given(node, at.scalar(node, WHAT), at)
        case Scalar():
            at.reject(node, f"expected {WHAT}, got {describe(node.value)}")


def _given(node: Scalar, value: Any, at: Reading) -> Iterator[tuple[Node, Any, Any]]:
    if isinstance(value, Mapping):
        yield from ((node, key, item) for key, item in value.items())
    elif isinstance(value, list):
        yield from ((node, key, None) for key in value)
    else:
        at.reject_value(node, f"expected {WHAT}, got {describe(value)}")


def _checked(node: Node, key: Any, value: Any, before: list[Each], at: Reading) -> Each:
    key = at.scalar(key, "a key") if isinstance(key, Node) else key
    value = FREE.read(value, at) if isinstance(value, Node) else value
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str) or not re.fullmatch(KEY, key):
        at.reject_value(node, f"{describe(key)}: {KEY_WHY}")
    if any(one.key == key for one in before):
        at.reject_value(node, f"the key '{key}' is there already")
    return Each(key, key if value is None else value)
