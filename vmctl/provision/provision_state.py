"""Which provisioners a machine has had (``provisioned.json``), and so which it needs now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from vmctl.errors import UsageError, suggest
from vmctl.layout import MachineLayout
from vmctl.provision import inputs
from vmctl.spec import Provisioner
from vmctl.store import files

FORMAT = 1


class Provisioned(Protocol):
    """What has provisioners."""

    @property
    def provision(self) -> tuple[Provisioner, ...]:
        """All of them, in order."""


def pending(
    spec: Provisioned,
    layout: MachineLayout | None,
    *,
    force: bool = False,
    only: Sequence[str] = (),
    start: str = "",
) -> tuple[Provisioner, ...]:
    """The provisioners that a machine needs now, in order.

    `run: once` is needed until it has succeeded with the inputs that it has now (``vmctl.provision.inputs``);
    `always` is needed at each call; `never` only by name.

    Args:
        spec: the machine.
        layout: where its record lies; None: it has none, and needs everything.
        force: also what is done already.
        only: exactly the provisioners with these names, done or not.
        start: nothing that comes before the provisioner with this name; a machine without it needs nothing.

    Raises:
        VmctlError: the record is damaged.
    """
    items = _from(spec.provision, start) if start else spec.provision
    if only:
        return tuple(item for item in items if item.name in only)
    wanted = [item for item in items if item.run != "never" or item.name == start]
    if force or not wanted or layout is None:
        return tuple(wanted)
    done = read(layout)
    return tuple(item for item in wanted if item.run == "always" or done.get(item.name) != inputs.digest(item))


def _from(items: Sequence[Provisioner], start: str) -> Sequence[Provisioner]:
    return next((items[number:] for number, item in enumerate(items) if item.name == start), ())


def check_names(provisioners: Iterable[Provisioner], only: Sequence[str]) -> None:
    """Refuse names that no provisioner has.

    Raises:
        UsageError: there is no such provisioner.
    """
    known = list(dict.fromkeys(item.name for item in provisioners))
    for name in only:
        if name not in known:
            hint = f"provisioners of this project: {', '.join(known)}" if known else "vmctl validate"
            raise UsageError(f"there is no provisioner '{name}'{suggest(name, known)}", hint=hint)


def read(layout: MachineLayout) -> dict[str, str]:
    """Digests of the inputs of what has succeeded, by the provisioner's name."""
    return {name: entry["digest"] for name, entry in _load(layout).items()}


def has_had_ansible(layout: MachineLayout) -> bool:
    """Whether a playbook has succeeded on the machine before."""
    return any(entry.get("kind") == "ansible" for entry in _load(layout).values())


def entries(layout: MachineLayout) -> dict[str, dict[str, Any]]:
    """All that is recorded, for a snapshot to keep."""
    return _load(layout)


def put_back(layout: MachineLayout, kept: Mapping[str, Any]) -> None:
    """Record exactly what ``entries`` gave once: the machine's disk is that of then."""
    files.write_json(layout.provisioned, {"format": FORMAT, "provisioners": dict(kept)})


def _load(layout: MachineLayout) -> dict[str, dict[str, Any]]:
    data = files.read_json(layout.provisioned)
    if data is None:
        return {}
    try:
        entries: dict[str, dict[str, Any]] = data["provisioners"]
        if all(isinstance(entry["digest"], str) for entry in entries.values()):
            return entries
    except (TypeError, KeyError, AttributeError):
        pass
    raise files.damaged(layout.provisioned, "`vmctl up` provisions again when it is gone")


def mark(layout: MachineLayout, provisioner: Provisioner, digest: str) -> None:
    """Record that a provisioner succeeded with the inputs of this digest (taken before it ran)."""
    entry = {
        "kind": type(provisioner).__name__.lower(),
        "digest": digest,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    files.write_json(layout.provisioned, {"format": FORMAT, "provisioners": {**_load(layout), provisioner.name: entry}})


def forget(layout: MachineLayout) -> None:
    """Drop the record: the machine's disk is new (or about to be)."""
    files.remove(layout.provisioned)
