"""Who is to be provisioned (a running machine, or a server), and all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from msgspec import Struct, field

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
    after_success: Callable[[Provisioner], None] | None = None
    """What is done after a provisioner has succeeded and is recorded."""
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


AS_WRITTEN = Mode()


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
