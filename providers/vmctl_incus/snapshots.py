"""Snapshots, with the tree that the server does not keep.

The server copies an instance's configuration into each of its snapshots. So what a snapshot is called, its note and
what it builds on are written into the configuration right before it is taken; the server's own name for it is random.
A snapshot builds on the nearest of its ancestors that is still there, and the present state likewise.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from vmctl import json_text
from vmctl.errors import WrongState
from vmctl.powers import Snapshot
from vmctl_incus import identity
from vmctl_incus.api import Api
from vmctl_incus.handle import Handle
from vmctl_incus.requesting import ServerError, is_absent

OWN = "vmctl-"
"""What the server's names of vmctl's snapshots begin with."""
OF_THE_STATE = ("volatile.", "image.", identity.SEEDED, identity.GROUND)
"""What of a configuration belongs to the state that is gone back to, and not to the Vmfile."""


class Kept(Struct, frozen=True, kw_only=True):
    """What the configuration says of a snapshot, or of what the present state builds on."""

    id: str = ""
    """The server's name for it."""
    name: str = ""
    note: str = ""
    ancestors: tuple[str, ...] = ()
    """Ids, the nearest first."""

    @classmethod
    def read(cls, config: Mapping[str, Any] | None) -> Kept:
        """From a configuration; nothing where that says nothing that makes sense."""
        try:
            written = json_text.loads(str((config or {}).get(identity.SNAPSHOT) or "{}"))
            ancestors = tuple(str(each) for each in written.get("ancestors", ()))
            return cls(ancestors=ancestors, **{key: str(written.get(key, "")) for key in ("id", "name", "note")})
        except (ValueError, TypeError, AttributeError):
            return cls()

    def written(self) -> str:
        """For a configuration."""
        return json.dumps({"id": self.id, "name": self.name, "note": self.note, "ancestors": list(self.ancestors)})

    @property
    def line(self) -> tuple[str, ...]:
        """Itself and its ancestors."""
        return (self.id, *self.ancestors)


class Snapshotter:
    """The snapshots of one instance."""

    def __init__(self, api: Api, instance: Handle) -> None:
        self._api = api
        self._path = instance.path
        self._instance = instance
        self._found = list(self._ask())

    def all(self) -> tuple[Snapshot, ...]:
        """All of them, parents first."""
        there = {kept.id: kept for kept, _ in self._found}
        parents = {kept.id: _nearest(kept.ancestors, there) for kept, _ in self._found}
        current = _nearest(Kept.read(self._instance.config).line, there)
        ordered = sorted(self._found, key=lambda pair: (_depth(pair[0].id, parents), pair[1]["created_at"]))
        return tuple(
            Snapshot(
                name=kept.name,
                parent=there[parents[kept.id]].name if parents[kept.id] else "",
                date=seconds(found["created_at"]),
                size=found["size"] if isinstance(found.get("size"), int) and found["size"] >= 0 else None,
                current=kept.id == current,
                note=kept.note,
            )
            for kept, found in ordered
        )

    def save(self, name: str, *, replacing: bool, note: str) -> Snapshot:
        """Take one."""
        older = self._named(name)
        if older and not replacing:
            raise WrongState(f"there is a snapshot {name!r} already", hint="vmctl snapshot list")
        before = Kept.read(self._instance.config)
        kept = Kept(id=OWN + secrets.token_hex(8), name=name, note=note,
                    ancestors=tuple(each for each in before.line if each))  # fmt: skip
        self._instance.patch({identity.SNAPSHOT: kept.written()})
        self._api.change("POST", f"{self._path}/snapshots", {"name": kept.id, "stateful": False})
        if older:
            self._remove(older)
        self._again()
        return next(each for each in self.all() if each.name == name)

    def restore(self, name: str) -> None:
        """Go back to one; the instance is off, and keeps the devices and limits that it has."""
        kept = self._named(name)
        if kept is None:
            raise WrongState(f"there is no snapshot {name!r}", hint="vmctl snapshot list")
        before = self._instance.found
        self._instance.again()
        # The server brings back the whole configuration of then: limits, folders and ports that the Vmfile has changed.
        self._api.change("PUT", self._path, {"restore": kept.id, "stateful": False})
        self._instance.again()
        settings = {key: value for key, value in before["config"].items() if not key.startswith(OF_THE_STATE)}
        rest = {key: before[key] for key in ("devices", "ephemeral", "profiles", "description")}

        def body(found: Mapping[str, Any]) -> dict[str, Any]:
            own = {key: value for key, value in found["config"].items() if key.startswith(OF_THE_STATE)}
            return {**rest, "config": {**settings, **own, identity.SNAPSHOT: kept.written()}}

        self._instance.put(body)

    def remove(self, name: str) -> None:
        """Forget one."""
        kept = self._named(name)
        if kept is not None:
            self._remove(kept)

    def _remove(self, kept: Kept) -> None:
        try:
            self._api.change("DELETE", f"{self._path}/snapshots/{kept.id}")
        except ServerError as error:
            if not is_absent(error):
                raise

    def _named(self, name: str) -> Kept | None:
        return next((kept for kept, _ in self._found if kept.name == name), None)

    def _again(self) -> None:
        self._instance.again()
        self._found = list(self._ask())

    def _ask(self) -> Iterator[tuple[Kept, Mapping[str, Any]]]:
        """The snapshots that are there; those that others took are called as the server calls them."""
        for found in self._api.get(f"{self._path}/snapshots", recursion=1) or ():
            own = str(found.get("name", "")).rpartition("/")[2]
            kept = Kept.read(found.get("config"))
            yield (kept if kept.id == own else Kept(id=own, name=own, ancestors=tuple(filter(None, kept.line))), found)


def _nearest(line: Sequence[str], there: Mapping[str, Kept]) -> str:
    return next((each for each in line if each in there), "")


def _depth(one: str, parents: Mapping[str, str]) -> int:
    depth, seen = 0, {one}
    while (one := parents.get(one, "")) and one not in seen:
        seen.add(one)
        depth += 1
    return depth


def seconds(text: str) -> float:
    """A time as the API writes it (nanoseconds, "Z")."""
    whole, _, rest = text.partition(".")
    fraction = rest.rstrip("Z")[:6]
    try:
        return datetime.fromisoformat(f"{whole.rstrip('Z')}.{fraction or 0}+00:00").timestamp()
    except ValueError:
        return 0.0
