"""The project's own machines as a host_set: every machine that exists, halted ones too, with the groups of the Vmfile.

``.vmctl/inventory/hosts.yml`` is for people (``ansible-playbook -i .vmctl/inventory site.yml``); each run of vmctl's
own gets one with exactly its provisioner's groups, and never reads that one: guests of the project can change it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vmctl.layout import ProjectLayout
from vmctl.login import Login
from vmctl.provision import inventory_formats, inventory_groups
from vmctl.provision.inventory_formats import Listing
from vmctl.provision.inventory_groups import OTHERS, Group
from vmctl.spec import Ansible, Project, Provisioner
from vmctl.ssh import config
from vmctl.store import claims, files

FILE = "hosts.yml"
HEADER = "# Written by vmctl at each provisioning; changes made here are lost.\n"
# What must hold however Ansible is called; its own options (-o Port=…, -o User=…) come before these.
SSH_OPTIONS = (
    "HostKeyAlias", "UserKnownHostsFile", "GlobalKnownHostsFile", "StrictHostKeyChecking",
    "IdentityFile", "IdentitiesOnly",
)  # fmt: skip


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
        return hosts(self.project, self.logins, self.layout)

    def others(self, item: Ansible | None, names: Sequence[str]) -> tuple[str, ...] | None:
        """The other machines that exist; an inventory of the user's own may have more."""
        return None if item and item.inventory else tuple(name for name in self._hosts if name not in names)

    def prepare(self) -> None:
        """Write the inventory that people use."""
        write(self.project, self.logins, self.layout)

    def groups(self, item: Ansible) -> Mapping[str, Group]:
        """The provisioner's groups, and those of the project."""
        return inventory_groups.resolve(self.project, item)

    def inventory(self, item: Ansible | None) -> str:
        """Every machine that exists, with exactly these groups."""
        if item is None:
            return inventory_formats.render(self.project, self._hosts, {})
        hosts = inventory_formats.with_variables(self._hosts, item.host_vars)
        return inventory_formats.render(self.project, hosts, self.groups(item))

    def inventory_inside(self, item: Ansible, name: str) -> str:
        """The inventory for a run inside the machine ``name``: the others (``OTHERS``) are known by their networks."""
        hosts: dict[str, Mapping[str, Any]] = {
            spec.name: {"ansible_host": spec.networks[0].ip} if spec.networks else {} for spec in self.project.machines
        }
        hosts[name] = {"ansible_connection": "local"}
        groups = {**self.groups(item), OTHERS: Group(tuple(host for host in hosts if host != name))}
        return inventory_formats.render(self.project, inventory_formats.with_variables(hosts, item.host_vars), groups)

    def enter(self, name: str) -> str:
        """The command that goes into a machine."""
        return f"vmctl ssh {name}"

    def again(self, names: Sequence[str]) -> str:
        """The command that provisions what is not done."""
        return f"vmctl up {' '.join(names)}"


def write(project: Project, logins: Iterable[Login], layout: ProjectLayout) -> Path:
    """Write the project's inventory, with all groups of all provisioners; returns its file.

    Args:
        project: the project.
        logins: how to get into the machines that run; the others are listed by their last known ssh_config.
        layout: where it goes.
    """
    claims.prepare(layout.directory.parent)
    path = layout.tree.inventory / FILE
    variables = inventory_formats.with_variables(
        hosts(project, logins, layout), inventory_groups.host_variables(project)
    )
    files.write(path, HEADER + inventory_formats.render(project, variables, inventory_groups.all_of(project)))
    return path


def hosts(project: Project, logins: Iterable[Login], layout: ProjectLayout) -> dict[str, dict[str, Any]]:
    """Variables of each machine that exists, by name."""
    known = {login.machine: login for login in logins}
    found: dict[str, dict[str, Any]] = {}
    for spec in project.machines:
        if spec.name in known:
            found[spec.name] = _variables(known[spec.name])
        elif files.exists(last := layout.machine(spec.name).ssh_config):
            # The machine's name is the alias in there: ssh finds the rest itself.
            found[spec.name] = {"ansible_ssh_common_args": shlex.join(["-F", str(last)])}
    return found


def listing(project: Project, logins: Iterable[Login], layout: ProjectLayout) -> Listing:
    """The machines with all groups of all provisioners, for `vmctl inventory` and whoever reads its answers."""
    groups = inventory_groups.all_of(project)
    return Listing(hosts=hosts(project, logins, layout), groups=groups, variables={"vmctl_project": project.name})


def _variables(login: Login) -> dict[str, Any]:
    settings = config.settings(login)
    options = [word for name in SSH_OPTIONS for word in ("-o", f"{name}={settings[name]}")]
    return {
        "ansible_host": login.address.host,
        "ansible_port": login.address.port,
        "ansible_user": login.user,
        "ansible_ssh_private_key_file": str(login.key).replace("%", "%%"),  # ssh expands %-tokens in it
        # -F keeps the user's own ~/.ssh/config out of it.
        "ansible_ssh_common_args": shlex.join(["-F", str(login.config), *options]),
    }
