"""An inventory in the forms that Ansible reads: YAML, INI, and the JSON of its dynamic inventories. Pure.

Format: https://docs.ansible.com/ansible/latest/dev_guide/developing_inventory.html
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vmctl.provision.inventory_groups import Group
from vmctl.spec import Project

MARKS = ("{{", "{%", "{#")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Who is in an inventory."""

    hosts: Mapping[str, Mapping[str, Any]]
    """Variables of each host."""
    groups: Mapping[str, Group]
    variables: Mapping[str, Any]
    """Those of all hosts."""

    def as_object(self) -> dict[str, Any]:
        """What ``--list`` answers: ``_meta.hostvars`` and the groups, those without a host included."""
        inner = {child for group in self.groups.values() for child in group.children}
        grouped = {host for group in self.groups.values() for host in group.hosts}
        data: dict[str, Any] = {
            "_meta": {"hostvars": {name: _marked(dict(values)) for name, values in self.hosts.items()}},
            "all": {
                "children": ["ungrouped", *(name for name in self.groups if name not in inner)],
                "vars": _marked(dict(self.variables)),
            },
            "ungrouped": {"hosts": [name for name in self.hosts if name not in grouped]},
        }
        for name, group in self.groups.items():
            data[name] = {"hosts": self._present(group), "children": list(group.children)}
        return data

    def host(self, name: str) -> dict[str, Any] | None:
        """What ``--host NAME`` answers; None = there is no such host."""
        return {**self.variables, **self.hosts[name]} if name in self.hosts else None

    def _present(self, group: Group) -> list[str]:
        return [host for host in group.hosts if host in self.hosts]

    def as_ini(self) -> str:
        """The inventory in INI."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        for name, values in self.hosts.items():
            yield " ".join([name, *(shlex.quote(f"{key}={_value(value)}") for key, value in values.items())])
        for name, group in self.groups.items():
            yield from ("", f"[{name}]", *self._present(group))
            if group.children:
                yield from ("", f"[{name}:children]", *group.children)
        if self.variables:
            yield from ("", "[all:vars]", *(f"{key}={_value(value)}" for key, value in self.variables.items()))


def _marked(value: Any) -> Any:
    """Marks text that Ansible would take for a template, as it marks such text itself in JSON."""
    if isinstance(value, Mapping):
        return {key: _marked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(item) for item in value]
    return {"__ansible_unsafe": value} if isinstance(value, str) and any(mark in value for mark in MARKS) else value


def _value(value: Any) -> str:
    """A value that Ansible reads back as it was: it takes what looks like a Python literal for one."""
    if not isinstance(value, str):
        return repr(value)
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value if value and value == value.strip() and "#" not in value and "\n" not in value else repr(value)
    return repr(value)


def render(
    project: Project,
    variables: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Group],
    further: Mapping[str, Any] | None = None,
) -> str:
    """The inventory as YAML; groups hold only machines that exist. ``further`` are variables of all of them."""
    everything = {
        "hosts": {name: dict(values) for name, values in variables.items()},
        "vars": {"vmctl_project": project.name, **(further or {})},
        "children": {
            name: {
                "hosts": {host: {} for host in group.hosts if host in variables},
                "children": {child: {} for child in group.children},
                **({"vars": dict(group.variables)} if group.variables else {}),
            }
            for name, group in groups.items()
        },
    }
    return _dump({"all": everything})


def with_variables(
    hosts: Mapping[str, Mapping[str, Any]], further: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Hosts with further variables of theirs, which win over how to get into them."""
    return {name: {**values, **further.get(name, {})} for name, values in hosts.items()}


def _dump(value: Any) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Marks text that Ansible would take for a template: a directory may be called anything."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  yaml's signature
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        is_templated = any(mark in value for mark in MARKS)
        return dumper.represent_scalar("!unsafe" if is_templated else "tag:yaml.org,2002:str", value)

    Dumper.add_representer(str, text)
    result = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
    return str(result)
