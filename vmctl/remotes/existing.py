"""Servers of an Ansible inventory that the user has: a file, a directory or a script, read by Ansible itself."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vmctl import json_text, process
from vmctl.errors import UsageError
from vmctl.provision import settings
from vmctl.provision.groups import Group
from vmctl.remotes.roster import Host, Roster
from vmctl.spec import Project, Remote
from vmctl.ssh.openssh import Destination

IMPLIED = ("all", "ungrouped", "_meta")
SSH = ("ssh", "smart", "ansible.builtin.ssh")
NOT_STRICT = re.compile(r"StrictHostKeyChecking[ =\"']+(no|off|false|accept-new|ask)\b", re.IGNORECASE)
FALSE = ("false", "no", "off", "0", "f", "n")
TEMPLATE = ("{{", "{%")


def roster(project: Project, remote: Remote, inventory: Path) -> Roster:
    """Ask Ansible who is in the inventory.

    Raises:
        UsageError: it can not be read, or turns host key checking off.
    """
    said = _ask(project.root, inventory, remote)
    variables = said["_meta"].get("hostvars", {})
    groups = {
        name: Group(tuple(group.get("hosts", ())), tuple(group.get("children", ())))
        for name, group in said.items()
        if name not in IMPLIED
    }
    names = dict.fromkeys(_names(said, "all"))
    _refuse_open(variables, remote)
    hosts = {name: _host(name, variables.get(name, {}), remote) for name in names}
    return Roster(remote=remote, hosts=hosts, groups=groups, sources=(inventory,))


def _ask(root: Path, inventory: Path, remote: Remote) -> dict[str, Any]:
    argv = [settings.program("ansible-inventory"), "-i", str(inventory), "--list"]
    rules = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True", "ANSIBLE_NOCOLOR": "1", "PYTHONWARNINGS": "ignore"}
    rules["ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS"] = "ignore"
    done = process.run(argv, check=False, cwd=root, env=rules)
    try:
        said: dict[str, Any] = json_text.loads(done.stdout)
        if done.status == 0 and isinstance(said.get("_meta"), dict):
            return said
    except ValueError:
        pass
    where = f"{remote.place}: " if remote.place else ""
    raise UsageError(
        f"{where}remotes.{remote.name}: Ansible can not read the inventory {inventory}",
        details=done.stderr.strip() or done.stdout.strip(),
        hint=f"ansible-inventory -i {shlex.quote(str(inventory))} --graph",
    )


def _names(said: Mapping[str, Any], group: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    entry = said.get(group, {})
    yield from entry.get("hosts", ())
    for child in entry.get("children", ()):
        if child not in above:
            yield from _names(said, child, (*above, group))


def _refuse_open(variables: Mapping[str, Mapping[str, Any]], remote: Remote) -> None:
    """Refuse an inventory that would have any host key taken."""
    checking = ("ansible_host_key_checking", "ansible_ssh_host_key_checking")
    arguments = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
    for name, values in variables.items():
        off = [key for key in checking if key in values and str(values[key]).lower() in FALSE]
        off += [key for key in arguments if NOT_STRICT.search(str(values.get(key, "")))]
        if off:
            raise UsageError(
                f"the inventory of {remote.name} turns host key checking off for {name}: {off[0]}",
                details="vmctl talks to servers whose host keys are known, and to no others.",
                hint=f"take {off[0]} out of {remote.inventory}; have the host's key in ~/.ssh/known_hosts",
            )


def _host(name: str, values: Mapping[str, Any], remote: Remote) -> Host:
    connection = str(values.get("ansible_connection", "ssh"))
    if connection not in SSH:
        why = f"the inventory reaches it by '{connection}', not by SSH: only playbooks can"
        return Host(name=name, variables=values, destination=None, why_not=why)
    host = _first(values, "ansible_host", "ansible_ssh_host") or name
    words = []
    for keyword, keys in {
        "Port": ("ansible_port", "ansible_ssh_port"),
        "User": ("ansible_user", "ansible_ssh_user"),
        "IdentityFile": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
    }.items():
        if value := _first(values, *keys):
            words += ["-o", f"{keyword}={value}"]
    for key in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        words += _split(values.get(key))
    if any(mark in word for mark in TEMPLATE for word in (host, *words)):
        why = "its address is a template, which only Ansible can fill in"
        return Host(name=name, variables=values, destination=None, why_not=why)
    enter = f"vmctl ssh --target {remote.name} {name}"
    destination = Destination(name=name, host=host, options=tuple(words), enter=enter)
    return Host(name=name, variables=values, destination=destination)


def _first(values: Mapping[str, Any], *keys: str) -> str:
    return next((str(values[key]) for key in keys if values.get(key) not in (None, "")), "")


def _split(text: Any) -> list[str]:
    try:
        return shlex.split(text) if isinstance(text, str) else []
    except ValueError:
        return []
