"""Provisioners in the words of a Vmfile. Order, ``machines`` and ``when`` are obeyed already, so they are not said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmctl.provisioners import Ansible, File, Provisioner, Reboot, Shell
from vmctl.vmfile.quantities import format_duration

SPARSE = ("limit", "start_at_task", "become_user", "forks", "strategy", "config_file", "python_interpreter",
          "playbook_command", "requirements")  # fmt: skip
"""Keys of Ansible that are said only where they have a value."""


def provisioner(one: Provisioner) -> dict[str, Any]:
    """One entry of ``provision:``."""
    match one:
        case Shell():
            body: dict[str, Any] = {"shell": _shell(one)}
        case Ansible():
            body = {"ansible": _ansible(one)}
        case File():
            body = {"file": _file(one)}
        case Reboot():
            body = {"reboot": {"timeout": format_duration(one.timeout)}}
    remotes = {} if one.remotes is None else {"remotes": list(one.remotes) or False}
    sensitive = {"sensitive": True} if one.sensitive else {}
    inputs = {} if one.inputs is None else {"inputs": [str(path) for path in one.inputs]}
    return {"name": one.name, **body, "run": one.run, **sensitive, **inputs, **remotes}


def _shell(one: Shell) -> dict[str, Any]:
    if one.url is not None:
        what: dict[str, Any] = {"url": one.url, "checksum": one.checksum}
    else:
        what = {"script": str(one.script)} if one.script else {"inline": one.inline}
    creates = {"creates": one.creates} if one.creates else {}
    return {
        **what, "args": list(one.args), "env": dict(one.env), "become": one.become, "on": one.on, **creates,
    }  # fmt: skip


def _file(one: File) -> dict[str, Any]:
    written: dict[str, Any] = {"source": str(one.source), "destination": one.destination}
    if one.mode is not None:
        written["mode"] = f"{one.mode:04o}"
    written |= {key: value for key, value in (("owner", one.owner), ("group", one.group)) if value}
    written |= {"become": one.become, "template": one.template}
    return {**written, "vars": dict(one.variables)} if one.template else written


def _ansible(one: Ansible) -> dict[str, Any]:
    books: dict[str, Any] = {"playbook": str(one.playbook)}
    if one.further_playbooks:
        books = {"playbooks": [str(path) for path in one.playbooks]}
    written = {
        **books,
        "mode": one.mode,
        "groups": {group: _group(one, group) for group in one.groups},
        "host_vars": {host: dict(values) for host, values in one.host_vars.items()},
        "extra_vars": _extra_vars(one),
        "become": one.become,
        "ask_become_pass": one.ask_become_pass,
        "vault": {key: "prompt" if path is None else str(path) for key, path in one.vault.items()},
        "check": one.check,
        "diff": one.diff,
        "tags": list(one.tags),
        "skip_tags": list(one.skip_tags),
        "verbosity": one.verbosity,
        "raw_arguments": list(one.raw_arguments),
        "env": dict(one.env),
    }
    for key in SPARSE:
        value = getattr(one, key)
        if value not in (None, ""):
            written[key] = str(value) if isinstance(value, Path) else value
    if one.mode == "guest":
        del written["ask_become_pass"]
        return {**written, "install": one.install}
    return {**written, "inventory": [str(path) for path in one.inventory]}


def _group(one: Ansible, group: str) -> Any:
    """Members as a list where that says it all; machines and groups apart where there are variables."""
    members = one.groups[group]
    if group not in one.group_vars:
        return list(members)
    hosts = [name for name in members if name not in one.groups]
    children = [name for name in members if name in one.groups]
    return {"hosts": hosts, "children": children, "vars": dict(one.group_vars[group])}


def _extra_vars(one: Ansible) -> Any:
    if not one.extra_vars_files:
        return dict(one.extra_vars)
    return [*(f"@{path}" for path in one.extra_vars_files), *([dict(one.extra_vars)] if one.extra_vars else [])]
