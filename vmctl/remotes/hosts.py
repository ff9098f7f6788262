"""Who the servers of a target are: names, groups, variables, how ssh gets to each, and which a pattern means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmctl import patterns
from vmctl.errors import UsageError, suggest
from vmctl.provision.inventory_groups import Group
from vmctl.spec import Remote
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
            raise UsageError(f"{self.name}: {self.why_not}", hint="write it in ~/.ssh/config, under the server's name")
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


def stands_for(server_inventory: ServerInventory, host: str, names: Iterable[str]) -> bool:
    """Whether a server bears one of these names, or is in a group of such a name."""
    wanted = set(names)
    return host in wanted or bool(server_inventory.groups_of(host) & wanted)


def select(servers: ServerInventory, texts: Sequence[str]) -> tuple[RemoteHost, ...]:
    """The servers that patterns (``--limit``) mean, in the order of the inventory; no pattern means all.

    As in Ansible, names, globs and groups are joined by commas: ``web,db`` is either, ``!web`` is all the others,
    ``web,&west`` is what is in both.

    Raises:
        UsageError: a part matches nothing, or no server is left.
    """
    names: dict[str, tuple[str, ...]] = {name: (name,) for name in servers.hosts}
    names |= {group: tuple(servers.members(group)) for group in servers.groups if group not in names}
    parts = [part for text in texts for part in patterns.split(text)]
    for part in parts:
        _require(part.lstrip("!&"), names, servers)
    chosen = patterns.select(parts, names)
    if not chosen:
        brief = f"'{','.join(texts)}' leaves no server of {servers.remote.name}"
        raise UsageError(brief if texts else f"{servers.remote.name} holds no server", hint=_known(servers))
    return tuple(host for name, host in servers.hosts.items() if name in chosen)


def _require(name: str, names: Mapping[str, tuple[str, ...]], servers: ServerInventory) -> None:
    try:
        patterns.meant(name, names)
    except patterns.BadPattern as error:
        advice = f" ({error})" if "[" in name or name.startswith("~") else suggest(name, names)
        brief = f"no server or group of {servers.remote.name} matches '{name}'{advice}"
        raise UsageError(brief, hint=_known(servers)) from error


def _known(servers: ServerInventory) -> str:
    groups = f"; groups: {', '.join(servers.groups)}" if servers.groups else ""
    return f"servers of {servers.remote.name}: {', '.join(servers.hosts)}{groups}"
