"""Which servers a ``--limit`` means: names, globs and groups, as in Ansible joined by commas, with ``!`` and ``&``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmctl import patterns
from vmctl.errors import UsageError, suggest
from vmctl.remotes.roster import Host, Roster


def select(roster: Roster, texts: Sequence[str]) -> tuple[Host, ...]:
    """The servers that patterns mean, in the order of the inventory; no pattern means all.

    ``web,db`` is either, ``!web`` is all the others, ``web,&west`` is what is in both.

    Raises:
        UsageError: a part matches nothing, or no server is left.
    """
    names: dict[str, tuple[str, ...]] = {name: (name,) for name in roster.hosts}
    names |= {group: tuple(roster.members(group)) for group in roster.groups if group not in names}
    parts = [part for text in texts for part in patterns.split(text)]
    for part in parts:
        _require(part.lstrip("!&"), names, roster)
    chosen = patterns.select(parts, names)
    if not chosen:
        said = f"'{','.join(texts)}' leaves no server of {roster.remote.name}"
        raise UsageError(said if texts else f"{roster.remote.name} holds no server", hint=_known(roster))
    return tuple(host for name, host in roster.hosts.items() if name in chosen)


def _require(name: str, names: Mapping[str, tuple[str, ...]], roster: Roster) -> None:
    try:
        patterns.meant(name, names)
    except patterns.BadPattern as error:
        advice = f" ({error})" if "[" in name or name.startswith("~") else suggest(name, names)
        brief = f"no server or group of {roster.remote.name} matches '{name}'{advice}"
        raise UsageError(brief, hint=_known(roster)) from error


def _known(roster: Roster) -> str:
    groups = f"; groups: {', '.join(roster.groups)}" if roster.groups else ""
    return f"servers of {roster.remote.name}: {', '.join(roster.hosts)}{groups}"
