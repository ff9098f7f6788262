"""``vars:``: evaluated when first used, so that they may use each other in any order, but not in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vmctl.spec import Place
from vmctl.vmfile.faults import Faults, Rejected, advise
from vmctl.vmfile.nodes import Node, Source, Table, from_plain, merge
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.scalars import resolve
from vmctl.vmfile.structures import Free

ENVIRONMENT_PREFIX = "VMCTL_VAR_"
OPTION = "--set"
QUOTES = ("'", '"')
FREE = Free()


class Variables(Mapping[str, Any]):
    """The values of ``vars``. Looking up a variable that has no value raises ``Rejected``; its fault is recorded."""

    def __init__(self, table: Table | None, faults: Faults) -> None:
        self.nodes: dict[str, Node] = {key: entry.value for key, entry in table.entries.items()} if table else {}
        self.faults = faults
        self.reading: Reading | None = None
        """Set by the owner of the scope that the variables are part of."""
        self._values: dict[str, Any] = {}
        self._rejected: set[str] = set()
        self._open: list[str] = []

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        node = self.nodes[name]
        if name in self._rejected:
            raise Rejected
        if name in self._open:
            circle = " → ".join([*self._open[self._open.index(name) :], name])
            self.faults.reject(node.place, node.path, f"uses itself: {circle}")
        assert self.reading is not None  # noqa: S101  set right after construction
        self._open.append(name)
        try:
            self._values[name] = FREE.read(node, self.reading)
        except Rejected:
            self._rejected.add(name)
            raise
        finally:
            self._open.pop()
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def all(self) -> dict[str, Any]:
        """Every variable that has a value; the faults of the others are recorded."""
        found = {}
        for name in self:
            try:
                found[name] = self[name]
            except Rejected:
                continue
        return found


def overridden(table: Table, overrides: Mapping[str, str], environ: Mapping[str, str], faults: Faults) -> Table:
    """``vars`` with VMCTL_VAR_name and then ``--set`` laid above.

    A variable of the environment that the Vmfile does not declare is another project's; ``--set`` of one is a mistake.
    """
    for name in table.entries:
        if (said := environ.get(ENVIRONMENT_PREFIX + name)) is not None:
            table = _laid(table, [name], said, Source(ENVIRONMENT_PREFIX + name, table.source.directory))
    for key, said in overrides.items():
        keys = key.split(".")
        if keys[0] not in table.entries or not all(keys):
            advice = advise(keys[0], table.entries)
            faults.add(Place(file=f"{OPTION} {key}"), "", f"vars: holds no '{keys[0]}'{advice}")
            continue
        table = _laid(table, keys, said, Source(f"{OPTION} {key}", table.source.directory))
    return table


def _laid(table: Table, keys: list[str], said: str, source: Source) -> Table:
    value: Any = _meant(said)
    for key in reversed(keys):
        value = {key: value}
    merged = merge(table, from_plain(value, source, "vars"))
    assert isinstance(merged, Table)  # noqa: S101  both are
    return Table(table.source, table.line, table.column, table.path, merged.entries)


def _meant(said: str) -> Any:
    """What was typed, read as a YAML scalar: 8080 is a number, '"8080"' is text."""
    if len(said) > 1 and said[0] == said[-1] and said[0] in QUOTES:
        return said[1:-1]
    return resolve(said)
