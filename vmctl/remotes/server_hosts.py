"""A target of servers as a host_set: how the Vmfile's provisioners and their groups apply to it, and running them.

One rule: a server **stands for** a machine when it bears the machine's name (or its key below ``machines:``), or is in
a group of that name. From it follow the provisioners that it gets and the groups of the Vmfile that it is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmctl import provision
from vmctl.provision import inventory_formats, inventory_groups, provision_state
from vmctl.provision.inventory_formats import Listing
from vmctl.provision.inventory_groups import Group
from vmctl.provision.target import Target
from vmctl.remotes.hosts import RemoteHost, ServerInventory, stands_for
from vmctl.spec import Ansible, Project, Provisioner, ServerProvisioner
from vmctl.ssh.link import Link
from vmctl.store import locks

if TYPE_CHECKING:
    from vmctl.provision.passwords import Passwords
    from vmctl.provision.summary import Summary
    from vmctl.provision.target import Mode
    from vmctl.workspace import Workspace


@dataclass
class ServerHosts:
    """The servers of a target."""

    project: Project
    server_inventory: ServerInventory

    @property
    def target(self) -> str:
        """The name below ``remotes:``."""
        return self.server_inventory.remote.name

    @property
    def root(self) -> Path:
        """The project's directory."""
        return self.project.root

    @property
    def sources(self) -> tuple[Path, ...]:
        """The user's own inventory."""
        return self.server_inventory.sources

    @property
    def graph(self) -> str:
        """The command that shows the groups."""
        return f"vmctl inventory --target {self.target} --yaml"

    @cached_property
    def provisioners(self) -> tuple[Provisioner, ...]:
        """Those that any server of the target may have."""
        return tuple(entry.provisioner for entry in self._applying)

    @property
    def _applying(self) -> list[ServerProvisioner]:
        return [
            entry
            for entry in self.project.for_servers
            if entry.provisioner.remotes is None or self.target in entry.provisioner.remotes
        ]

    def targets(self, hosts: Sequence[RemoteHost]) -> tuple[Target, ...]:
        """The servers as what provisioning works on."""
        return tuple(
            Target(name=host.name, provision=self._of(host.name), connect=partial(_connect, host)) for host in hosts
        )

    def _of(self, host: str) -> tuple[Provisioner, ...]:
        return tuple(
            entry.provisioner
            for entry in self._applying
            if entry.machines is None or self._is_one_of(host, entry.machines)
        )

    def others(self, item: Ansible | None, names: Sequence[str]) -> tuple[str, ...] | None:
        """The other servers, where the Vmfile has them all."""
        known = not self.sources and not (item and item.inventory)
        return tuple(name for name in self.server_inventory.hosts if name not in names) if known else None

    def prepare(self) -> None:
        """Nothing to do: the servers are as they are."""

    def groups(self, item: Ansible) -> Mapping[str, Group]:
        """The target's own groups, and those of the provisioner that it does not have itself.

        A member of such a group is every server that stands for one of its machines.
        """
        found = dict(self.server_inventory.groups)
        for name, group in inventory_groups.resolve(self.project, item).items():
            if name not in found:
                hosts = tuple(host for host in self.server_inventory.hosts if self._is_one_of(host, group.hosts))
                found[name] = Group(hosts, group.children, group.variables)
        return found

    def _is_one_of(self, host: str, machines: Sequence[str]) -> bool:
        meant = set(machines)
        keys = {spec.group for spec in self.project.machines if spec.name in meant and spec.group}
        return stands_for(self.server_inventory, host, meant | keys)

    def inventory(self, item: Ansible | None) -> str:
        """The servers with these groups; where the user has an inventory, just what comes on top of it."""
        hosts = {name: {} if self.sources else host.variables for name, host in self.server_inventory.hosts.items()}
        variables = inventory_formats.with_variables(hosts, self._host_variables(item) if item else {})
        groups = self.groups(item) if item else self.server_inventory.groups
        further = {**self.server_inventory.variables, "vmctl_target": self.target}
        return inventory_formats.render(self.project, variables, groups, further)

    def _host_variables(self, item: Ansible) -> dict[str, dict[str, Any]]:
        """What the provisioner says of machines, for the servers that stand for them."""
        found: dict[str, dict[str, Any]] = {}
        for machine, values in item.host_vars.items():
            for host in self.server_inventory.hosts:
                if self._is_one_of(host, (machine,)):
                    found[host] = {**found.get(host, {}), **values}
        return found

    def listing(self) -> Listing:
        """The servers with the groups of all provisioners, for `vmctl inventory` and whoever reads its answers."""
        servers = self.server_inventory
        groups: dict[str, Group] = dict(servers.groups)
        for item in self.provisioners:
            if isinstance(item, Ansible):
                groups |= {name: group for name, group in self.groups(item).items() if name not in groups}
        variables = {"vmctl_project": self.project.name, **servers.variables, "vmctl_target": self.target}
        hosts = {name: dict(host.variables) for name, host in servers.hosts.items()}
        return Listing(hosts=hosts, groups=groups, variables=variables)

    def enter(self, name: str) -> str:
        """The command that goes into a server."""
        return f"vmctl ssh --target {self.target} {name}"

    def again(self, names: Sequence[str]) -> str:
        """The command that provisions servers again."""
        return f"vmctl provision --target {self.target} {' '.join(names)}"


def _connect(host: RemoteHost) -> Link:
    from vmctl.ssh.openssh import OpenSsh

    return OpenSsh.connect(host.reached())


def planned(
    host_set: ServerHosts, hosts: Sequence[RemoteHost], only: Sequence[str], start: str = ""
) -> dict[str, list[str]]:
    """Names of servers → names of the provisioners that each would get, without servers that would get none.

    Raises:
        UsageError: no provisioner has a name of ``only``.
    """
    provision_state.check_names(host_set.provisioners, [*only, *([start] if start else [])])
    work = {
        target.name: provision_state.pending(target, None, only=only, start=start) for target in host_set.targets(hosts)
    }
    return {name: [item.name for item in items] for name, items in work.items() if items}


def run(
    workspace: Workspace,
    host_set: ServerHosts,
    hosts: Sequence[RemoteHost],
    *,
    only: Sequence[str],
    mode: Mode,
    start: str = "",
    passwords: Passwords | None = None,
) -> Summary:
    """Run everything that the servers are to get, done before or not: others may have changed them meanwhile.

    Raises:
        UsageError, ProvisionFailed, Unreachable: as ``vmctl.provision.run``.
    """
    workspace.ensure_id()
    layout = workspace.layout
    what = f"target {host_set.target}"
    with locks.hold(layout.target_lock(host_set.target), what, timeout=workspace.lock_timeout, report=workspace.report):
        targets = host_set.targets(hosts)
        return provision.run(
            host_set, targets, layout=layout, only=only, start=start, force=True, mode=mode, passwords=passwords,
            report=workspace.report,
        )  # fmt: skip
