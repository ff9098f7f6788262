"""Providers in a Vmfile: the names that may be used, and what stands below one: knobs that the provider declares.

They are declared so that they are read like any other key.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any, get_type_hints

from msgspec import Struct

from vmctl import registry
from vmctl.errors import suggest
from vmctl.registry import BUILT_IN, GROUP
from vmctl.vmfile.faults import Rejected, advise, describe
from vmctl.vmfile.kinds import Kind, Schema, parsed
from vmctl.vmfile.nodes import Node, Scalar
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Field, Free, FreeMap, as_table, properties

AUTO = "auto"


def installed() -> tuple[str, ...]:
    """The built-in providers and every installed plug-in."""
    return _installed(tuple(sys.path))


@functools.cache  # reads what every installed package says
def _installed(_search_path: tuple[str, ...]) -> tuple[str, ...]:
    from importlib.metadata import entry_points

    return tuple(dict.fromkeys((*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP)))))


def is_provider(name: str) -> bool:
    """Whether a mapping of this name holds a provider's own options."""
    return name in BUILT_IN or name in installed()


def _parse(value: Any) -> str:
    if not isinstance(value, str):
        raise Mismatch(f"expected a provider's name, got {describe(value)}")
    if value != AUTO and not is_provider(value):
        known = (AUTO, *installed())
        raise Mismatch(f"no provider '{value}' is installed{advise(value, known)}")
    return value


PROVIDER = parsed("a provider's name", _parse, {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"})


OF_PROVIDER = "Settings that only the provider {} knows."
UNSAID: tuple[Any, ...] = (None, "", (), {})
"""Defaults that leave the choice to others."""


class Section(Struct, frozen=True):
    """A mapping of knobs, read to what was written; null stands for the default."""

    fields: Mapping[str, Field]

    def read(self, node: Node, at: Reading) -> dict[str, Any]:
        """The values as they were written, when every one of them is right."""
        values = self._checked(node, at)
        return {name: Free().read(entry, at) for name, (entry, _value) in values.items()}

    def converted(self, node: Node, at: Reading) -> dict[str, Any]:
        """The values as the provider wants them, without those that are null."""
        return {name: value for name, (_entry, value) in self._checked(node, at).items() if value is not None}

    def _checked(self, node: Node, at: Reading) -> dict[str, tuple[Node, Any]]:
        """Each value's node, and the value itself; faults of all of them are recorded."""
        found: dict[str, tuple[Node, Any]] = {}
        table = as_table(node, at)
        for name, entry in table.entries.items():
            if name not in self.fields:
                known = suggest(name, self.fields) or f"; known: {', '.join(self.fields)}"
                at.add(entry.key, f"unknown key{known}")
                continue
            try:
                found[name] = entry.value, self._value(name, entry.value, at)
            except Rejected:
                continue
        if len(found) < len(table.entries):
            raise Rejected
        return found

    def _value(self, name: str, node: Node, at: Reading) -> Any:
        if isinstance(node, Scalar) and at.scalar(node, "a value") is None:
            return None
        return self.fields[name].kind.read(node, at)

    def schema(self) -> Schema:
        """An object with these keys and no others."""
        known = properties(self.fields)
        for one in known.values():
            schema = {key: one.pop(key) for key in [*one] if key not in ("description", "default")}
            one["anyOf"] = [*schema.get("anyOf", [schema]), {"type": "null"}]
        return {"type": "object", "properties": known, "additionalProperties": False}


@functools.cache
def fields(knobs: type) -> dict[str, Field]:
    """The fields that a class declares: ``cpu: Annotated[str, Field(kind, meaning)] = ""``."""
    defaults = knobs()
    return {
        name: _with_default(hint.__metadata__[0], getattr(defaults, name))
        for name, hint in get_type_hints(knobs, include_extras=True).items()
        if hasattr(hint, "__metadata__")
    }


def _with_default(field: Field, default: Any) -> Field:
    if default in UNSAID:
        return field
    return Field(field.kind, field.doc, field.required, list(default) if isinstance(default, tuple) else default)


def section(provider: str) -> Kind:
    """How the section of a provider is read: by its declaration, or as any mapping where it has none."""
    knobs = _knobs(provider, tuple(sys.path))
    return FreeMap() if knobs is None else Section(fields(knobs))


@functools.cache  # reads what every installed package says
def _knobs(provider: str, _search_path: tuple[str, ...]) -> type | None:
    return registry.knobs(provider)
