"""How ``provision:`` is written: a list of ``shell`` and ``ansible`` entries, in order."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any, get_args

from vmctl.spec import Ansible, Provisioner, Run, Shell
from vmctl.vmfile.box_refs import absolute
from vmctl.vmfile.faults import describe
from vmctl.vmfile.kinds import Kind, One, choice, flag, text, whole, word
from vmctl.vmfile.names import MachineNames
from vmctl.vmfile.nodes import Node, Sequence, Source, Table
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Either, Field, FreeMap, ListOf, MapOf, NotYet, Record

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
NAME_WHY = "a provisioner's name has 1 to 63 letters, digits, '.', '_' and '-'"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
GROUP = r"[A-Za-z_][A-Za-z0-9_]*"
GROUP_WHY = "a group's name has letters, digits and '_', and starts with no digit"
MOST_VERBOSE = 6


def parse_file(value: Any, source: Source) -> Path:
    """An existing file of the host.

    Raises:
        Mismatch: there is none.
    """
    if not isinstance(value, str) or not value:
        raise Mismatch(f"expected a file of the host, got {describe(value)}")
    if "\n" in value:
        raise Mismatch("expected a file of the host, got several lines; for commands write {inline: …}")
    path = absolute(value, source)
    try:
        if path.is_file():
            return path
        there = path.exists()
    except OSError as error:
        raise Mismatch(f"the host's {path} can not be looked at: {error.strerror}") from error
    if there:
        raise Mismatch(f"{path} is not a file")
    raise Mismatch(f"the host has no file {path}" + ("; for commands write {inline: …}" if " " in value else ""))


FILE = One("a file of the host", parse_file, {"type": "string", "minLength": 1})


def _shell(values: dict[str, Any], _table: Table, _at: Reading) -> Shell:
    return Shell(name="", **values)


def _ansible(values: dict[str, Any], _table: Table, _at: Reading) -> Ansible:
    merged = {key: tuple(dict.fromkeys(sum(members, ()))) for key, members in values.get("groups", {}).items()}
    return Ansible(name="", **{**values, "groups": merged})


EXTRA_VARS = NotYet(FreeMap(), "files of variables", mark="@")

SHELL: Kind = Either(
    One("a script's path", lambda value, source: Shell(name="", script=parse_file(value, source)), FILE.json),
    Record(
        {
            "inline": Field(text(), "Commands, run by the guest's /bin/sh."),
            "script": Field(FILE, "A script on the host; its first line says what runs it."),
            "args": Field(ListOf(word()), "Arguments.", default=[]),
            "env": Field(
                MapOf(word(), VARIABLE, "not a name of an environment variable"), "Environment variables.", default={}
            ),
            "become": Field(flag(), "Whether it runs as root.", default=True),
        },
        _shell,
        later=("url", "checksum", "creates", "host", "on"),
        exactly_one=("inline", "script"),
    ),
    "a script's path or a mapping",
)

ANSIBLE: Kind = Either(
    One("a playbook's path", lambda value, source: Ansible(name="", playbook=parse_file(value, source)), FILE.json),
    Record(
        {
            "playbook": Field(FILE, "The playbook; relative to this file.", required=True),
            "groups": Field(
                MapOf(ListOf(MachineNames()), GROUP, GROUP_WHY),
                "Inventory groups and their machines.",
                default={},
            ),
            "extra_vars": Field(EXTRA_VARS, "Variables that win over all others.", default={}),
            "become": Field(flag(), "Whether tasks run as root unless they say otherwise.", default=False),
            "tags": Field(ListOf(text()), "Run only what has one of these tags.", default=[]),
            "skip_tags": Field(ListOf(text()), "Leave out what has one of these tags.", default=[]),
            "verbosity": Field(whole(0, MOST_VERBOSE), "How much Ansible says, as the number of -v.", default=0),
        },
        _ansible,
        later=(
            "ask_become_pass", "ask_vault_pass", "become_user", "check", "collections", "config_file", "diff", "env",
            "forks", "galaxy", "host_vars", "inventory", "limit", "mode", "playbooks", "python_interpreter",
            "raw_arguments", "requirements", "roles", "start_at_task", "strategy", "vault", "vault_ids",
            "vault_password_file",
        ),
    ),
    "a playbook's path or a mapping",
)  # fmt: skip


def _provisioner(values: dict[str, Any], table: Table, _at: Reading) -> Provisioner:
    made: Provisioner = values.get("shell") or values["ansible"]
    return dataclasses.replace(made, name=values.get("name", ""), run=values.get("run", "once"), place=table.place)


PROVISIONER = Record(
    {
        "shell": Field(SHELL, "Run a script, or commands, in the guest."),
        "ansible": Field(ANSIBLE, "Run a playbook on all machines that the entry applies to."),
        "name": Field(
            text("a name", NAME_PATTERN, NAME_WHY),
            "What messages and --only call it; by default the file's name without its ending, or shell-N.",
        ),
        "run": Field(choice(*get_args(Run)), "When `vmctl up` runs it.", default="once"),
    },
    _provisioner,
    later=("file", "reboot", "when", "machines", "before", "after", "remotes"),
    exactly_one=("shell", "ansible"),
)

PROVISION = ListOf(PROVISIONER)


def named(lists: list[tuple[Node, tuple[Provisioner, ...]]], at: Reading) -> tuple[Provisioner, ...]:
    """All provisioners of a machine, outer list first, each with a name that no other has.

    A list is named before the next one is looked at, so that the top level's have the same names on every machine.
    """
    done: list[Provisioner] = []
    for node, items in lists:
        taken = {item.name for item in done}
        for number, item in enumerate(items):
            if item.name and item.name in taken:
                at.add(_name_node(node, number), f"there is already a provisioner '{item.name}'")
            taken.add(item.name)
        for item in items:
            name = item.name or _free_name(item, taken)
            taken.add(name)
            done.append(dataclasses.replace(item, name=name))
    return tuple(done)


def _name_node(node: Node, number: int) -> Node:
    item = node.items[number] if isinstance(node, Sequence) else node
    return (item.get("name") if isinstance(item, Table) else None) or item


def _free_name(item: Provisioner, taken: set[str]) -> str:
    """The file's name without its ending; a number is added where that is taken, and always to ``shell``."""
    path = item.script if isinstance(item, Shell) else item.playbook
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") if path else ""
    if stem and stem not in taken:
        return stem
    stem = stem or ("ansible" if isinstance(item, Ansible) else "shell")
    first = 2 if path else 1
    return next(name for number in itertools.count(first) if (name := f"{stem}-{number}") not in taken)
