"""Machines to provision, and what became of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from vmctl.layout import MachineLayout
from vmctl.login import Login
from vmctl.spec import MachineSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A running machine, and how to get into it."""

    spec: MachineSpec
    login: Login
    layout: MachineLayout

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.spec.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many tasks ended how, in Ansible's words; a script counts as one changed task."""

    ok: int = 0
    """Includes the changed ones."""
    changed: int = 0
    failed: int = 0
    unreachable: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            **{name.name: getattr(self, name.name) + getattr(other, name.name) for name in dataclasses.fields(Counts)}
        )

    def __str__(self) -> str:
        said = [f"{value} {name}" for name, value in dataclasses.asdict(self).items() if value and name != "ok"]
        return ", ".join([f"{self.ok} ok", *said])


class Status(Enum):
    """How provisioning ended for a machine."""

    DONE = "done"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


@dataclass
class Result:
    """What became of one machine."""

    counts: Counts = field(default_factory=Counts)
    status: Status = Status.DONE
    ran: list[str] = field(default_factory=list)
    """Names of the provisioners that succeeded."""
    not_attempted: list[str] = field(default_factory=list)
    """Names of those that an earlier failure kept from running."""
    failed: str = ""
    """Name of the one that failed."""


@dataclass
class Summary:
    """What became of all machines of a run, by name."""

    machines: dict[str, Result]

    @property
    def changed(self) -> bool:
        """Whether any task changed anything."""
        return any(result.counts.changed for result in self.machines.values())

    def as_object(self) -> dict[str, Any]:
        """The summary for programs: whether anything changed, and each machine's status, counts and provisioners."""
        return {"changed": self.changed, "machines": {name: _object(result) for name, result in self.machines.items()}}


def _object(result: Result) -> dict[str, Any]:
    return {
        "status": result.status.value,
        **dataclasses.asdict(result.counts),
        "ran": list(result.ran),
        "failed_provisioner": result.failed or None,
        "not_attempted": list(result.not_attempted),
    }
