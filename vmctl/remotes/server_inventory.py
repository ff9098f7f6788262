"""The servers of a target: names, groups, variables, and how ssh gets to each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmctl.errors import UsageError, suggest
from vmctl.provision.inventory_groups import Group
from vmctl.provision.passwords import Passwords
from vmctl.spec import Project, Remote
from vmctl.ssh.openssh import Destination


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteHost:
    """One server."""

    name: str
    variables: Mapping[str, Any]
    """Those of the inventory; for servers of an existing one, with those of its groups."""
    destination: Destination | None
    """Where ssh goes; None: nowhere that vmctl can tell."""
    why_not: str = ""
    """Why there is no destination."""

    def reached(self) -> Destination:
        """Where ssh goes.

        Raises:
            UsageError: vmctl cannot tell; Ansible may well.
        """
        if self.destination is None:
            raise UsageError(f"{self.name}: {self.why_not}", hint="say it in ~/.ssh/config, by the server's name")
        return self.destination


@dataclass(frozen=True, kw_only=True)
class ServerInventory:
    """All servers of a target, with their groups."""

    remote: Remote
    hosts: Mapping[str, RemoteHost]
    groups: Mapping[str, Group]
    """All but `all` and `ungrouped`."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Those of the group `all`, where the Vmfile has the servers."""
    sources: tuple[Path, ...] = ()
    """The user's own inventory."""
    warnings: tuple[str, ...] = ()
    """What Ansible says of files in it that it could not read."""

    def members(self, group: str) -> tuple[str, ...]:
        """The servers in a group or in one below it, in the order of the inventory."""
        if group == "all":
            return tuple(self.hosts)
        found: set[str] = set()
        queue, seen = [group], set[str]()
        while queue:
            name = queue.pop()
            if name in self.groups and name not in seen:
                seen.add(name)
                found |= set(self.groups[name].hosts)
                queue += self.groups[name].children
        return tuple(name for name in self.hosts if name in found)

    def groups_of(self, host: str) -> set[str]:
        """The groups that a server is in, directly or through others."""
        return {group for group in self.groups if host in self.members(group)}


def load(project: Project, remote: Remote, passwords: Passwords | None = None) -> ServerInventory:
    """Who the servers of a target are; an existing inventory is asked of Ansible.

    Args:
        project: the project.
        remote: the target.
        passwords: what the user has typed; a vaulted inventory may want more.

    Raises:
        VmctlError: the inventory cannot be read, or turns host key checking off.
    """
    if remote.inventory is None:
        from vmctl.remotes import inline_hosts

        return inline_hosts.read(remote)
    from vmctl.remotes import inventory_file

    return inventory_file.read(project, remote, remote.inventory, passwords or Passwords())


def find(project: Project, target: str) -> Remote:
    """A target by its name.

    Raises:
        UsageError: there is none of that name.
    """
    for remote in project.remotes:
        if remote.name == target:
            return remote
    known = [remote.name for remote in project.remotes]
    hint = f"targets of this project: {', '.join(known)}" if known else "write them below `remotes:` in the Vmfile"
    raise UsageError(f"there is no target '{target}'{suggest(target, known)}", hint=hint)


def stands_for(server_inventory: ServerInventory, host: str, names: Iterable[str]) -> bool:
    """Whether a server bears one of these names, or is in a group of such a name."""
    wanted = set(names)
    return host in wanted or bool(server_inventory.groups_of(host) & wanted)
