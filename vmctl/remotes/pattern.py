"""Which servers a ``--limit`` means: names, globs and groups, as in Ansible joined by commas, with ``!`` and ``&``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmctl import patterns
from vmctl.errors import UsageError, suggest
from vmctl.remotes.server_inventory import RemoteHost, ServerInventory


def select(servers: ServerInventory, texts: Sequence[str]) -> tuple[RemoteHost, ...]:
    """The servers that patterns mean, in the order of the inventory; no pattern means all.

    ``web,db`` is either, ``!web`` is all the others, ``web,&west`` is what is in both.

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
        said = f"'{','.join(texts)}' leaves no server of {servers.remote.name}"
        raise UsageError(said if texts else f"{servers.remote.name} holds no server", hint=_known(servers))
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
