"""The Ansible inventory of a project: every machine that exists, halted ones too, with the groups of the Vmfile.

``.vmctl/inventory/hosts.yml`` is for people (``ansible-playbook -i .vmctl/inventory site.yml``); each run of vmctl's
own gets one with exactly its provisioner's groups, and never reads that one: guests of the project can change it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vmctl.layout import ProjectLayout
from vmctl.login import Login
from vmctl.provision import inventory_groups
from vmctl.provision.inventory_formats import Listing
from vmctl.provision.inventory_groups import Group
from vmctl.spec import Project
from vmctl.ssh import config
from vmctl.store import claims, files

FILE = "hosts.yml"
HEADER = "# Written by vmctl at each provisioning; changes made here are lost.\n"
# What must hold however Ansible is called; its own options (-o Port=…, -o User=…) come before these.
SSH_OPTIONS = (
    "HostKeyAlias", "UserKnownHostsFile", "GlobalKnownHostsFile", "StrictHostKeyChecking",
    "IdentityFile", "IdentitiesOnly",
)  # fmt: skip


def write(project: Project, logins: Iterable[Login], layout: ProjectLayout) -> Path:
    """Write the project's inventory, with all groups of all provisioners; returns its file.

    Args:
        project: the project.
        logins: how to get into the machines that run; the others are listed by their last known ssh_config.
        layout: where it goes.
    """
    claims.prepare(layout.directory.parent)
    path = layout.tree.inventory / FILE
    variables = with_variables(hosts(project, logins, layout), inventory_groups.host_variables(project))
    files.write(path, HEADER + render(project, variables, inventory_groups.all_of(project)))
    return path


def with_variables(
    hosts: Mapping[str, Mapping[str, Any]], further: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Hosts with further variables of theirs, which win over how to get into them."""
    return {name: {**values, **further.get(name, {})} for name, values in hosts.items()}


def hosts(project: Project, logins: Iterable[Login], layout: ProjectLayout) -> dict[str, dict[str, Any]]:
    """Variables of each machine that exists, by name."""
    known = {login.machine: login for login in logins}
    found: dict[str, dict[str, Any]] = {}
    for spec in project.machines:
        if spec.name in known:
            found[spec.name] = _variables(known[spec.name])
        elif files.exists(last := layout.machine(spec.name).ssh_config):
            # The machine's name is the alias in there: ssh finds the rest itself.
            found[spec.name] = {"ansible_ssh_common_args": shlex.join(["-F", str(last)])}
    return found


def listing(project: Project, logins: Iterable[Login], layout: ProjectLayout) -> Listing:
    """The machines with all groups of all provisioners, for `vmctl inventory` and whoever reads its answers."""
    groups = inventory_groups.all_of(project)
    return Listing(hosts=hosts(project, logins, layout), groups=groups, variables={"vmctl_project": project.name})


def _variables(login: Login) -> dict[str, Any]:
    settings = config.settings(login)
    options = [word for name in SSH_OPTIONS for word in ("-o", f"{name}={settings[name]}")]
    return {
        "ansible_host": login.address.host,
        "ansible_port": login.address.port,
        "ansible_user": login.user,
        "ansible_ssh_private_key_file": str(login.key).replace("%", "%%"),  # ssh expands %-tokens in it
        # -F keeps the user's own ~/.ssh/config out of it.
        "ansible_ssh_common_args": shlex.join(["-F", str(login.config), *options]),
    }


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


def _dump(value: Any) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Marks text that Ansible would take for a template: a directory may be called anything."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  yaml's signature
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        looks_templated = any(mark in value for mark in ("{{", "{%", "{#"))
        return dumper.represent_scalar("!unsafe" if looks_templated else "tag:yaml.org,2002:str", value)

    Dumper.add_representer(str, text)
    result = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
    return str(result)
