"""Which servers a ``--limit`` means: names, globs and groups, as in Ansible joined by commas, with ``!`` and ``&``."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from vmctl.errors import UsageError, suggest
from vmctl.remotes.roster import Host, Roster


def select(roster: Roster, patterns: Sequence[str]) -> tuple[Host, ...]:
    """The servers that patterns mean, in the order of the inventory; no pattern means all.

    ``web,db`` is either, ``!web`` is all the others, ``web,&west`` is what is in both.

    Raises:
        UsageError: a part matches nothing, or no server is left.
    """
    parts = [part.strip() for pattern in patterns for part in pattern.split(",") if part.strip()]
    wanted = [part for part in parts if part[0] not in "!&"]
    chosen = set().union(*(_meant(roster, part) for part in wanted)) if wanted else set(roster.hosts)
    for part in parts:
        if part[0] == "&":
            chosen &= _meant(roster, part[1:])
        elif part[0] == "!":
            chosen -= _meant(roster, part[1:])
    if not chosen:
        said = f"'{','.join(patterns)}' leaves no server of {roster.remote.name}" if patterns else "holds no server"
        raise UsageError(said if patterns else f"{roster.remote.name} {said}", hint=_known(roster))
    return tuple(host for name, host in roster.hosts.items() if name in chosen)


def _meant(roster: Roster, part: str) -> set[str]:
    found = set(fnmatch.filter(roster.hosts, part))
    for group in ("all", *roster.groups):
        if fnmatch.fnmatchcase(group, part):
            found |= set(roster.members(group))
    if found or part in roster.groups:
        return found
    meant = suggest(part, [*roster.hosts, *roster.groups])
    raise UsageError(f"no server or group of {roster.remote.name} matches '{part}'{meant}", hint=_known(roster))


def _known(roster: Roster) -> str:
    groups = f"; groups: {', '.join(roster.groups)}" if roster.groups else ""
    return f"servers of {roster.remote.name}: {', '.join(roster.hosts)}{groups}"
