"""What became of each machine of a provisioning run."""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec import Struct, field, structs


class Counts(Struct, frozen=True, kw_only=True):
    """How many tasks ended how, in Ansible's words; a script counts as one changed task."""

    ok: int = 0
    """Includes the changed ones."""
    changed: int = 0
    failed: int = 0
    unreachable: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    def __str__(self) -> str:
        counts = [f"{value} {name}" for name, value in structs.asdict(self).items() if value and name != "ok"]
        return ", ".join([f"{self.ok} ok", *counts])


class Status(Enum):
    """How provisioning ended for a machine."""

    DONE = "done"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


class Failure(Struct, frozen=True, kw_only=True):
    """Why a provisioner failed on some machines (all for the same reason) or on one."""

    machines: tuple[str, ...]
    brief: str
    details: str = ""
    unreachable: bool = False
    follows: bool = False
    """Nothing failed here: Ansible gave up because other machines could not be reached."""
    hint: str = ""
    task: str = ""
    """Of a playbook: the task that failed."""
    place: str = ""
    """FILE:LINE of that task."""

    def as_object(self) -> dict[str, str | None]:
        """The failure for programs."""
        return {
            "brief": self.brief, "task": self.task or None, "place": self.place or None, "message": self.details,
        }  # fmt: skip

    @property
    def status(self) -> Status:
        """What it means for the machines."""
        return Status.UNREACHABLE if self.unreachable else Status.FAILED


class HostResult(Struct):
    """What became of one machine."""

    counts: Counts = field(default_factory=Counts)
    status: Status = Status.DONE
    ran: list[str] = field(default_factory=list)
    """Names of the provisioners that succeeded."""
    not_checked: list[str] = field(default_factory=list)
    """Names of those that cannot run without changing anything, and so did not in check mode."""
    changed_tasks: list[str] = field(default_factory=list)
    """The tasks of playbooks that changed something (in check mode: would), as Ansible names them, with their place."""
    not_attempted: list[str] = field(default_factory=list)
    """Names of those that an earlier failure kept from running."""
    failed: str = ""
    """Name of the one that failed."""
    failure: Failure | None = None
    """Why."""


class Summary(Struct):
    """What became of all machines of a run, by name."""

    machines: dict[str, HostResult]

    @property
    def changed(self) -> bool:
        """Whether any task changed anything."""
        return any(result.counts.changed for result in self.machines.values())

    @property
    def unfinished(self) -> list[str]:
        """Machines on which something failed, or that could not be reached."""
        return [name for name, result in self.machines.items() if result.status is not Status.DONE]

    def as_object(self) -> dict[str, Any]:
        """The summary for programs: whether anything changed, and each machine's status, counts and provisioners.

        Of a run in which nothing was to be done, it is empty.
        """
        if not self.machines:
            return {}
        return {"changed": self.changed, "machines": {name: _object(result) for name, result in self.machines.items()}}


def _object(result: HostResult) -> dict[str, Any]:
    return {
        "status": result.status.value,
        **structs.asdict(result.counts),
        "ran": list(result.ran),
        "failed_provisioner": result.failed or None,
        "failure": result.failure.as_object() if result.failure else None,
        "not_attempted": list(result.not_attempted),
        "not_checked": list(result.not_checked),
        "changed_tasks": list(result.changed_tasks),
    }
