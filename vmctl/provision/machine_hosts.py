"""The project's own machines as a host_set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vmctl.layout import ProjectLayout
from vmctl.login import Login
from vmctl.provision import inventory_groups, machine_inventory
from vmctl.provision.inventory_groups import OTHERS, Group
from vmctl.spec import Ansible, Project, Provisioner


@dataclass
class MachineHosts:
    """All machines of a project that exist, with the logins of those that run."""

    project: Project
    logins: Sequence[Login]
    layout: ProjectLayout
    target: str = ""
    sources: tuple[Path, ...] = ()
    graph: str = "ansible-inventory -i .vmctl/inventory --graph"

    @property
    def root(self) -> Path:
        """The project's directory."""
        return self.project.root

    @property
    def provisioners(self) -> Iterable[Provisioner]:
        """Those of all machines."""
        return self.project.provisioners

    @cached_property
    def _hosts(self) -> dict[str, dict[str, Any]]:
        return machine_inventory.hosts(self.project, self.logins, self.layout)

    def others(self, item: Ansible | None, names: Sequence[str]) -> tuple[str, ...] | None:
        """The other machines that exist; an inventory of the user's own may have more."""
        return None if item and item.inventory else tuple(name for name in self._hosts if name not in names)

    def prepare(self) -> None:
        """Write the inventory that people use."""
        machine_inventory.write(self.project, self.logins, self.layout)

    def groups(self, item: Ansible) -> Mapping[str, Group]:
        """The provisioner's groups, and those of the project."""
        return inventory_groups.resolve(self.project, item)

    def inventory(self, item: Ansible | None) -> str:
        """Every machine that exists, with exactly these groups."""
        if item is None:
            return machine_inventory.render(self.project, self._hosts, {})
        hosts = machine_inventory.with_variables(self._hosts, item.host_vars)
        return machine_inventory.render(self.project, hosts, self.groups(item))

    def inventory_inside(self, item: Ansible, name: str) -> str:
        """The inventory for a run inside the machine ``name``: the others (``OTHERS``) are known by their networks."""
        hosts: dict[str, Mapping[str, Any]] = {
            spec.name: {"ansible_host": spec.networks[0].ip} if spec.networks else {} for spec in self.project.machines
        }
        hosts[name] = {"ansible_connection": "local"}
        groups = {**self.groups(item), OTHERS: Group(tuple(host for host in hosts if host != name))}
        return machine_inventory.render(self.project, machine_inventory.with_variables(hosts, item.host_vars), groups)

    def enter(self, name: str) -> str:
        """The command that goes into a machine."""
        return f"vmctl ssh {name}"

    def again(self, names: Sequence[str]) -> str:
        """The command that provisions what is not done."""
        return f"vmctl up {' '.join(names)}"
