"""Servers of an Ansible inventory that the user has: a file, a directory or a script, read by Ansible itself."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmctl import json_text, process
from vmctl.errors import UsageError
from vmctl.process import Completed
from vmctl.provision import arguments, passwords, settings
from vmctl.provision.inventory_groups import Group
from vmctl.provision.passwords import Passwords
from vmctl.remotes.hosts import RemoteHost, ServerInventory
from vmctl.spec import Ansible, Project, Remote
from vmctl.ssh.openssh import Destination

IMPLIED = ("all", "ungrouped", "_meta")
SSH = ("ssh", "smart", "ansible.builtin.ssh")
NOT_STRICT = re.compile(r"StrictHostKeyChecking[ =\"']+(no|off|false|accept-new|ask)\b", re.IGNORECASE)
FALSE = ("false", "no", "off", "0", "f", "n")
TEMPLATE = ("{{", "{%")
VAULTED = "vault"  # in Ansible's words when it lacks a password
UNPARSED = "parse"  # in its warnings of files that it can make nothing of


def read(project: Project, remote: Remote, inventory: Path, passwords: Passwords) -> ServerInventory:
    """Ask Ansible who is in the inventory, with the vaults and settings of the entries that run on the target.

    Raises:
        UsageError: it cannot be read, or turns host key checking off.
    """
    items = [
        entry.provisioner
        for entry in project.for_servers
        if isinstance(entry.provisioner, Ansible)
        if entry.provisioner.remotes is None or remote.name in entry.provisioner.remotes
    ]
    listing, warnings = _Question(project.root, inventory, remote, items, passwords).answer()
    variables = listing["_meta"].get("hostvars", {})
    groups = {
        name: Group(tuple(group.get("hosts", ())), tuple(group.get("children", ())))
        for name, group in listing.items()
        if name not in IMPLIED
    }
    names = dict.fromkeys(_names(listing, "all"))
    _refuse_open(variables, remote)
    hosts = {name: _host(name, variables.get(name, {}), remote) for name in names}
    return ServerInventory(remote=remote, hosts=hosts, groups=groups, sources=(inventory,), warnings=warnings)


@dataclass(frozen=True)
class _Question:
    """One inventory, as the entries of a target have it read."""

    root: Path
    inventory: Path
    remote: Remote
    items: Sequence[Ansible]
    passwords: Passwords

    def answer(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What `ansible-inventory --list` says, and its warnings of what it could not read."""
        done = self._asked({})
        if done.status != 0 and VAULTED in done.stderr:  # only now is a password worth asking for
            typed: dict[str, str] = {}
            for item in self.items:
                self.passwords.ask_for(item)
                known = self.passwords.of(item)
                typed |= {word: known[word] for word in known if word.startswith("--vault-id")}
            done = self._asked(typed) if typed else done
        listing = _parsed(done.stdout) if done.status == 0 else None
        if listing is None:
            raise self._unreadable(done)
        return listing, tuple(line for line in _paragraphs(done.stderr) if UNPARSED in line)

    def _asked(self, typed: Mapping[str, str]) -> Completed:
        environment = {
            **{name: value for item in reversed(self.items) for name, value in arguments.environment(item).items()},
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONWARNINGS": "ignore",
            "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": "ignore",
        }
        environment = settings.utf8_locale(os.environ) | environment
        with tempfile.TemporaryDirectory(prefix="vmctl-") as place, passwords.served(typed, Path(place)) as words:
            argv = [settings.program("ansible-inventory"), *self._words(), *words, "--list"]
            return process.run(argv, check=False, cwd=self.root, env=environment)

    def _words(self) -> list[str]:
        files = [word for item in self.items for word in arguments.vault_files(item)]
        return [f"--inventory={self.inventory}", *dict.fromkeys(files)]

    def _unreadable(self, done: Completed) -> UsageError:
        where = f"{self.remote.place}: " if self.remote.place else ""
        return UsageError(
            f"{where}remotes.{self.remote.name}: Ansible cannot read the inventory {self.inventory}",
            details=done.stderr.strip() or done.stdout.strip(),
            hint=shlex.join(["ansible-inventory", *self._words(), "--graph"]),
        )


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        listing = json_text.loads(text)
    except ValueError:
        return None
    return listing if isinstance(listing, dict) and isinstance(listing.get("_meta"), dict) else None


def _paragraphs(text: str) -> list[str]:
    """Warnings of Ansible, each as one line."""
    return [" ".join(part.split()) for part in text.split("[WARNING]:")[1:]]


def _names(listing: Mapping[str, Any], group: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    entry = listing.get(group, {})
    yield from entry.get("hosts", ())
    for child in entry.get("children", ()):
        if child not in above:
            yield from _names(listing, child, (*above, group))


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
                hint=f"take {off[0]} out of {remote.inventory}; add the host's key to ~/.ssh/known_hosts",
            )


def _host(name: str, values: Mapping[str, Any], remote: Remote) -> RemoteHost:
    connection = str(values.get("ansible_connection", "ssh"))
    if connection not in SSH:
        why = f"the inventory reaches it by '{connection}', not by SSH: only playbooks can"
        return RemoteHost(name=name, variables=values, destination=None, why_not=why)
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
        return RemoteHost(name=name, variables=values, destination=None, why_not=why)
    enter = f"vmctl ssh --target {remote.name} {name}"
    destination = Destination(name=name, host=host, options=tuple(words), enter=enter)
    return RemoteHost(name=name, variables=values, destination=destination)


def _first(values: Mapping[str, Any], *keys: str) -> str:
    return next((str(values[key]) for key in keys if values.get(key) not in (None, "")), "")


def _split(text: Any) -> list[str]:
    try:
        return shlex.split(text) if isinstance(text, str) else []
    except ValueError:
        return []
