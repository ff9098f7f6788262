"""Who is to be provisioned (a running machine, or a server), all of them at once, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from msgspec import Struct, field, structs

from vmctl.layout import MachineLayout
from vmctl.login import Login
from vmctl.spec import MachineSpec, Provisioner

if TYPE_CHECKING:
    from vmctl.ssh.link import Link

R = TypeVar("R")

AT_ONCE = 16  # connections; each is a thread that mostly waits


class Target(Struct, frozen=True, kw_only=True):
    """A host to provision, and how to get into it."""

    name: str
    provision: tuple[Provisioner, ...]
    """Its provisioners, done before or not, in order."""
    connect: Callable[[], Link]
    """Log in. Raises ``Unreachable`` and ``Interrupted``."""
    layout: MachineLayout | None = None
    """Where its record of what has succeeded lies; None: there is none, everything is run each time (a server)."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What templates know of it besides its name."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What scripts on this host know of it besides its name."""
    after_reboot: Callable[[], None] | None = None
    """What has to be done anew after it has restarted: mounts."""

    @classmethod
    def machine(cls, spec: MachineSpec, login: Login, layout: MachineLayout) -> Self:
        """A running machine of the project."""
        return cls(
            name=spec.name,
            provision=spec.provision,
            connect=partial(_connect, login),
            layout=layout,
            facts={
                "group": spec.group, "index": spec.index, "hostname": spec.hostname,
                "networks": {network.name: network.ip for network in spec.networks},
            },
            environment={
                "VMCTL_SSH_CONFIG": str(login.config), "VMCTL_SSH_HOST": login.address.host,
                "VMCTL_SSH_PORT": str(login.address.port), "VMCTL_SSH_USER": login.user,
            },
        )  # fmt: skip


def _connect(login: Login) -> Link:
    from vmctl.ssh import Connection

    return Connection.connect(login)


class Mode(Struct, frozen=True, kw_only=True):
    """How provisioners run, besides what the Vmfile says of each."""

    check: bool = False
    """Change nothing, tell what would change; only playbooks can, so nothing else runs."""
    diff: bool = False
    """Show the changes of files."""


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
        said = [f"{value} {name}" for name, value in structs.asdict(self).items() if value and name != "ok"]
        return ", ".join([f"{self.ok} ok", *said])


class Status(Enum):
    """How provisioning ended for a machine."""

    DONE = "done"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


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
    failure: dict[str, str | None] | None = None
    """Why: ``brief``, ``task`` and ``place`` (of a playbook), ``message``."""


class Summary(Struct):
    """What became of all machines of a run, by name."""

    machines: dict[str, HostResult]

    @property
    def changed(self) -> bool:
        """Whether any task changed anything."""
        return any(result.counts.changed for result in self.machines.values())

    def as_object(self) -> dict[str, Any]:
        """The summary for programs: whether anything changed, and each machine's status, counts and provisioners."""
        return {"changed": self.changed, "machines": {name: _object(result) for name, result in self.machines.items()}}


def _object(result: HostResult) -> dict[str, Any]:
    return {
        "status": result.status.value,
        **structs.asdict(result.counts),
        "ran": list(result.ran),
        "failed_provisioner": result.failed or None,
        "failure": result.failure,
        "not_attempted": list(result.not_attempted),
        "not_checked": list(result.not_checked),
        "changed_tasks": list(result.changed_tasks),
    }


def each(targets: Sequence[Target], act: Callable[[Target], R]) -> list[R]:
    """``act`` on every target, side by side; results in the order of the targets.

    Raises:
        The first exception, after all have ended: an interruption ends them all within moments.
    """
    if len(targets) == 1:
        return [act(targets[0])]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(AT_ONCE, max(1, len(targets)))) as pool:
        return [future.result() for future in [pool.submit(act, target) for target in targets]]
