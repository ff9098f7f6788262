"""Which machines the inventory groups of a provisioner mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vmctl import patterns
from vmctl.errors import UsageError, suggest
from vmctl.spec import Ansible, Project

OTHERS = "vmctl_others"
"""The group of the hosts that a run is not about, in its own inventory."""


@dataclass(frozen=True, slots=True)
class Group:
    """One inventory group: machines, groups below it, and variables."""

    hosts: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Known:
    machines: tuple[str, ...]
    counted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """``count:`` keys: "web" → web-1, web-2."""

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """What each name means, for patterns."""
        return {**{one: (one,) for one in self.machines}, **self.counted}


def of_project(project: Project) -> dict[str, Group]:
    """Groups that exist without being named by a provisioner: one for each ``count:`` key."""
    return {key: Group(hosts) for key, hosts in _known(project).counted.items()}


def resolve(project: Project, item: Ansible) -> dict[str, Group]:
    """The provisioner's groups, and those of the project.

    A member is a machine's name, the key of a counted machine (all of them), the name of another group (which becomes
    a child), or a pattern over machine names (``web-*``); tried in this order.

    Raises:
        UsageError: a member means nothing, or groups contain each other.
    """
    known = _known(project)
    found = of_project(project)
    for name, members in item.groups.items():
        found[name] = _group(name, members, item, known)
    _refuse_cycles(found, item)
    return found


def all_of(project: Project) -> dict[str, Group]:
    """The groups of all provisioners together, for the inventory that people use."""
    found: dict[str, Group] = {}
    items = [item for spec in project.machines for item in spec.provision if isinstance(item, Ansible)]
    for groups in [of_project(project), *(resolve(project, item) for item in items)]:
        for name, group in groups.items():
            old = found.get(name, Group())
            found[name] = Group(
                _union(old.hosts, group.hosts),
                _union(old.children, group.children),
                {**old.variables, **group.variables},
            )
    return found


def host_variables(project: Project) -> dict[str, dict[str, Any]]:
    """The variables that all provisioners together give to machines, for the inventory that people use."""
    found: dict[str, dict[str, Any]] = {}
    for item in (item for spec in project.machines for item in spec.provision if isinstance(item, Ansible)):
        for name, values in item.host_vars.items():
            found[name] = {**found.get(name, {}), **values}
    return found


def _union(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*left, *right]))


def _known(project: Project) -> _Known:
    known = _Known(tuple(spec.name for spec in project.machines))
    for spec in project.machines:
        if spec.group and spec.group not in known.machines:
            known.counted[spec.group] = (*known.counted.get(spec.group, ()), spec.name)
    return known


def _group(name: str, members: Iterable[str], item: Ansible, known: _Known) -> Group:
    hosts: list[str] = []
    children: list[str] = []
    for member in members:
        if member in known.machines:
            hosts.append(member)
        elif member in known.counted:
            hosts += known.counted[member]
        elif member in item.groups:
            children.append(member)
        else:
            try:
                hosts += patterns.meant(member, known.names)
            except patterns.BadPattern as error:
                raise _means_nothing(name, member, item, known) from error
    return Group(tuple(dict.fromkeys(hosts)), tuple(dict.fromkeys(children)), item.group_vars.get(name, {}))


def _means_nothing(name: str, member: str, item: Ansible, known: _Known) -> UsageError:
    choices = [*known.machines, *known.counted, *item.groups]
    where = f"{item.place}: " if item.place else ""
    return UsageError(
        f"{where}provisioner '{item.name}': group '{name}': no machine or group matches '{member}'"
        f"{suggest(member, choices)}",
        hint=f"machines of this project: {', '.join(known.machines)}",
    )


def _refuse_cycles(groups: dict[str, Group], item: Ansible) -> None:
    for start in groups:
        path = _way_back(groups, start, (start,))
        if path:
            where = f"{item.place}: " if item.place else ""
            raise UsageError(
                f"{where}provisioner '{item.name}': groups contain each other: {' → '.join(path)}",
                hint="vmctl validate",
            )


def _way_back(groups: dict[str, Group], start: str, path: tuple[str, ...]) -> tuple[str, ...]:
    for child in groups[path[-1]].children:
        if child == start:
            return (*path, start)
        if child in groups and child not in path and (found := _way_back(groups, start, (*path, child))):
            return found
    return ()
