"""The servers of a target: those that the Vmfile itself has, or those of an inventory that Ansible reads."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmctl.errors import UsageError, suggest
from vmctl.provision.inventory_groups import Group
from vmctl.provision.passwords import Passwords
from vmctl.remotes import inventory_file
from vmctl.remotes.hosts import RemoteHost, ServerInventory
from vmctl.spec import Project, Remote, Server
from vmctl.ssh import server_options
from vmctl.ssh.openssh import Destination


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
        return inline(remote)
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


def inline(remote: Remote) -> ServerInventory:
    """The servers that the Vmfile itself has: what ssh and Ansible are told of each. Nothing is written for it."""
    groups: dict[str, Group] = {}
    for server in remote.servers:
        for name in server.groups:
            groups[name] = Group((*groups.get(name, Group()).hosts, server.name))
    hosts = {server.name: _host(server, remote) for server in remote.servers}
    return ServerInventory(remote=remote, hosts=hosts, groups=groups, variables=dict(remote.vars))


def _host(server: Server, remote: Remote) -> RemoteHost:
    destination = Destination(
        name=server.name,
        host=server.address or server.name,
        options=(*_login(server), *_further(server, remote)),
        enter=f"vmctl ssh --target {remote.name} {server.name}",
    )
    return RemoteHost(name=server.name, variables=_variables(server, remote), destination=destination)


def _variables(server: Server, remote: Remote) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    if server.address:
        variables["ansible_host"] = server.address
    if server.port is not None:
        variables["ansible_port"] = server.port
    if server.user:
        variables["ansible_user"] = server.user
    if server.key:
        variables["ansible_ssh_private_key_file"] = _path(server.key)
    variables["ansible_ssh_common_args"] = shlex.join(
        [*server_options.words(server_options.UNATTENDED), *_further(server, remote)]
    )
    return {**variables, **server.vars}


def _login(server: Server) -> list[str]:
    words = ["-o", f"Port={server.port}"] if server.port is not None else []
    words += ["-o", f"User={server.user}"] if server.user else []
    return words + (["-o", f"IdentityFile={_quoted(server.key)}"] if server.key else [])


def _further(server: Server, remote: Remote) -> list[str]:
    """What Ansible has no variable for."""
    words = ["-o", "IdentitiesOnly=yes"] if server.key else []
    if remote.known_hosts:
        own = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
        words += ["-o", f"UserKnownHostsFile={own} {_quoted(remote.known_hosts)}"]
    if server.jump:
        others = {one.name: one for one in remote.servers}
        words += ["-o", f"ProxyCommand={shlex.join(_through(server.jump, remote, others))}"]
    return words


def _through(jump: str, remote: Remote, others: Mapping[str, Server]) -> list[str]:
    """The ssh that leads to a server: as strict as the one that goes through it, which ProxyJump would not be."""
    hop = others.get(jump) or _jump_host(jump)
    inner = [word.replace("%", "%%") for word in (*_login(hop), *_further(hop, remote))]
    return ["ssh", *server_options.words(server_options.OWN), *inner, "-W", "[%h]:%p", "--", hop.address or hop.name]


def _jump_host(jump: str) -> Server:
    """[USER@]HOST[:PORT]."""
    user, _, place = jump.rpartition("@")
    host, port = place, ""
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    elif ":" in place:
        host, _, port = place.partition(":")
    return Server(name=host, user=user, port=int(port) if port else None)


def _path(path: Path) -> str:
    """A path for a keyword that expands %-tokens."""
    return str(path).replace("%", "%%")


def _quoted(path: Path) -> str:
    """A path in a list of paths, or alone."""
    text = _path(path)
    return f'"{text}"' if " " in text else text
