"""Inventories of the project's machines and of its targets, for `vmctl inventory` and whoever reads its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmctl.provision import groups as grouping
from vmctl.provision import inventory
from vmctl.provision.groups import Group
from vmctl.provision.listing import Listing
from vmctl.remotes import roster as rosters
from vmctl.remotes.realm import Servers
from vmctl.spec import Ansible

if TYPE_CHECKING:
    from vmctl.workspace import Workspace


def of(workspace: Workspace, target: str) -> Listing:
    """The inventory of a target; "" = of the machines that exist, halted ones too, without asking a hypervisor."""
    return _servers(workspace, target) if target else _machines(workspace)


def _machines(workspace: Workspace) -> Listing:
    from vmctl import reach

    project = workspace.project
    hosts = inventory.hosts(project, reach.known_logins(workspace), workspace.layout)
    return Listing(hosts=hosts, groups=grouping.all_of(project), variables={"vmctl_project": project.name})


def _servers(workspace: Workspace, target: str) -> Listing:
    project = workspace.project
    roster = rosters.load(project, rosters.find(project, target))
    realm = Servers(project, roster)
    groups: dict[str, Group] = dict(roster.groups)
    for item in realm.provisioners:
        if isinstance(item, Ansible):
            groups |= {name: group for name, group in realm.groups(item).items() if name not in groups}
    own: dict[str, Any] = {"vmctl_project": project.name, **roster.variables, "vmctl_target": target}
    hosts = {name: dict(host.variables) for name, host in roster.hosts.items()}
    return Listing(hosts=hosts, groups=groups, variables=own)
