"""Where the hosts of a run belong to: the project's own machines, or a target of its remotes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vmctl.spec import Ansible, Provisioner

if TYPE_CHECKING:
    from vmctl.provision.inventory_groups import Group


class HostSet(Protocol):
    """What differs between machines and servers: the inventory, and what to tell the user to type."""

    @property
    def root(self) -> Path:
        """The project's directory; Ansible runs there."""

    @property
    def target(self) -> str:
        """The name below ``remotes:``; "" = the project's machines."""

    @property
    def provisioners(self) -> Iterable[Provisioner]:
        """All that any host may have, for the names of ``--only``."""

    @property
    def sources(self) -> tuple[Path, ...]:
        """Existing inventories that Ansible reads before ``inventory``."""

    def others(self, item: Ansible | None, names: Sequence[str]) -> tuple[str, ...] | None:
        """The hosts of its inventory for a provisioner but for ``names``; None: others may be in there as well."""

    def prepare(self) -> None:
        """Called once before a run that has something to do."""

    def groups(self, item: Ansible) -> Mapping[str, Group]:
        """The groups of the hosts for a provisioner.

        Raises:
            UsageError: one makes no sense.
        """

    def inventory(self, item: Ansible | None) -> str:
        """Text of a YAML inventory for a provisioner; None = without any groups but the hosts' own."""

    def enter(self, name: str) -> str:
        """The command that goes into a host."""

    def again(self, names: Sequence[str]) -> str:
        """The command that provisions hosts again."""

    @property
    def graph(self) -> str:
        """The command that shows the groups."""
