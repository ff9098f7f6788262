"""Inventories of the project's machines and of its targets, for `vmctl inventory` and whoever reads its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmctl.provision import inventory_groups, machine_inventory
from vmctl.provision.inventory_formats import Listing
from vmctl.provision.inventory_groups import Group
from vmctl.remotes import server_inventory
from vmctl.remotes.server_hosts import ServerHosts
from vmctl.spec import Ansible

if TYPE_CHECKING:
    from vmctl.workspace import Workspace


def of(workspace: Workspace, target: str) -> Listing:
    """The inventory of a target; "" = of the machines that exist, halted ones too, without asking a hypervisor."""
    return _servers(workspace, target) if target else _machines(workspace)


def _machines(workspace: Workspace) -> Listing:
    from vmctl import logins

    project = workspace.project
    hosts = machine_inventory.hosts(project, logins.known_logins(workspace), workspace.layout)
    return Listing(hosts=hosts, groups=inventory_groups.all_of(project), variables={"vmctl_project": project.name})


def _servers(workspace: Workspace, target: str) -> Listing:
    project = workspace.project
    servers = server_inventory.load(project, server_inventory.find(project, target))
    host_set = ServerHosts(project, servers)
    groups: dict[str, Group] = dict(servers.groups)
    for item in host_set.provisioners:
        if isinstance(item, Ansible):
            groups |= {name: group for name, group in host_set.groups(item).items() if name not in groups}
    own: dict[str, Any] = {"vmctl_project": project.name, **servers.variables, "vmctl_target": target}
    hosts = {name: dict(host.variables) for name, host in servers.hosts.items()}
    return Listing(hosts=hosts, groups=groups, variables=own)
