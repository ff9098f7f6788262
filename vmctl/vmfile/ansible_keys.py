"""How an ``ansible`` entry is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from vmctl.provisioners import Ansible, Install, Side
from vmctl.vmfile.faults import Rejected
from vmctl.vmfile.host_paths import EXISTING, FILE, SOMETIME, parse_file
from vmctl.vmfile.kinds import Kind, One, Schema, choice, flag, text, whole, word
from vmctl.vmfile.machine_patterns import Groups, HostVars
from vmctl.vmfile.nodes import Node, Sequence, Table
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Either, Field, FreeMap, ListOf, MapOf, TableOf

VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
VARIABLE_WHY = "not a name of an environment variable"
VAULT_ID = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
VAULT_ID_WHY = "a vault id has letters, digits, '_' and '-'"
PROMPT = "prompt"
MOST_VERBOSE = 6
MOST_FORKS = 500
FREE_MAP = FreeMap()

INSTEAD = {
    "ask_vault_pass": "write vault: prompt", "collections": "write requirements: FILE",
    "compatibility_mode": "there is only one mode", "force_remote_user": "the login user is the machine's `user:`",
    "galaxy_collections_path": "write requirements: FILE", "galaxy_command": "write requirements: FILE",
    "galaxy_role_file": "write requirements: FILE", "galaxy_roles_path": "write requirements: FILE",
    "host_key_checking": "host keys are always checked", "install_mode": "write install: pip",
    "inventory_path": "write inventory: [PATH]", "provisioning_path": "what the playbook needs is sent along",
    "raw_ssh_args": "write env: {ANSIBLE_SSH_ARGS: …}", "sudo": "write become: true",
    "sudo_user": "write become_user: …",
    "vault_ids": "write vault: {ID: FILE}", "vault_password_file": "write vault: FILE",
    "verbose": "write verbosity: 1 (the number of -v)",
}  # fmt: skip
"""Keys that people know from elsewhere, and what they are here."""

OWN_ARGUMENTS = {
    "-e": "extra_vars", "--extra-vars": "extra_vars", "-l": "limit", "--limit": "limit", "-t": "tags", "--tags": "tags",
    "--skip-tags": "skip_tags", "--start-at-task": "start_at_task", "-b": "become", "--become": "become",
    "--become-user": "become_user", "-K": "ask_become_pass", "--ask-become-pass": "ask_become_pass",
    "-J": "vault", "--ask-vault-pass": "vault", "--ask-vault-password": "vault", "--vault-id": "vault",
    "--vault-password-file": "vault", "--vault-pass-file": "vault", "-f": "forks", "--forks": "forks",
    "-C": "check", "--check": "check", "-D": "diff", "--diff": "diff", "-i": "inventory", "--inventory": "inventory",
    "--inventory-file": "inventory",
}  # fmt: skip
INTERACTIVE = {"-k": "logging in by password", "--ask-pass": "logging in by password", "--step": "stepping"}


class ExtraVars(Kind):
    """A mapping, ``@FILE``, or a list of both; read to a pair of mapping and files."""

    def read(self, node: Node, at: Reading) -> tuple[dict[str, Any], tuple[Path, ...]]:
        """Variables and files of them."""
        values: dict[str, Any] = {}
        found: list[Path] = []
        for item in node.items if isinstance(node, Sequence) else (node,):
            if isinstance(item, Table):
                values |= FREE_MAP.read(item, at)
            else:
                found.append(VARS_FILE.read(item, at))
        return values, tuple(found)

    def schema(self) -> Schema:
        """An object, marked text, or a list of these."""
        one: list[Schema] = [{"type": "object"}, VARS_FILE.schema()]
        return {"anyOf": [*one, {"type": "array", "items": {"anyOf": one}}]}


def _vars_file(value: Any, source: Any) -> Path:
    if not isinstance(value, str) or not value.startswith("@"):
        raise Mismatch
    return parse_file(value[1:], source)


VARS_FILE = One("a mapping, or @FILE", _vars_file, {"type": "string", "pattern": "^@."})


class Vault(Kind):
    """A password file, ``prompt``, or a mapping of vault ids to these; read to a dict of files, None = prompt."""

    def read(self, node: Node, at: Reading) -> dict[str, Path | None]:
        """Where each id's password comes from."""
        if isinstance(node, Table):
            return self._by_id.read(node, at)
        return {"default": self._secret.read(node, at)}

    @property
    def _secret(self) -> One:
        return One(
            "a password file, or prompt",
            lambda value, source: None if value == PROMPT else SOMETIME.convert(value, source),
            {"type": "string", "minLength": 1},
        )

    @property
    def _by_id(self) -> MapOf:
        return MapOf(self._secret, VAULT_ID, VAULT_ID_WHY)

    def schema(self) -> Schema:
        """Text, or an object of texts."""
        return {"anyOf": [self._secret.schema(), self._by_id.schema()]}


class Arguments(Kind):
    """Further arguments for ansible-playbook; those that have a key are refused."""

    def read(self, node: Node, at: Reading) -> tuple[str, ...]:
        """The words."""
        words: tuple[str, ...] = ListOf(word()).read(node, at)
        good = True
        for item, typed in zip(node.items if isinstance(node, Sequence) else (), words, strict=True):
            option = typed.partition("=")[0] if typed.startswith("--") else typed[:2]
            if key := OWN_ARGUMENTS.get(option):
                at.add(item, f"{option} has a key of its own: {key}")
            elif what := INTERACTIVE.get(option):
                at.add(item, f"{option}: {what} is not possible here")
            else:
                continue
            good = False
        if not good:
            raise Rejected
        return words

    def schema(self) -> Schema:
        """A list of words."""
        return ListOf(word()).schema()


def _ansible(values: dict[str, Any], table: Table, at: Reading) -> Ansible:
    made: dict[str, Any] = dict(values)
    books = made.pop("playbooks", ())
    if "playbook" not in made and not books:
        if (node := table.get("playbooks")) is not None:
            at.reject(node, "expected at least one playbook")
        raise Rejected
    made["playbook"], *further = (made["playbook"],) if "playbook" in made else books
    made["further_playbooks"] = tuple(further)
    made["groups"], made["group_vars"] = made.get("groups", ({}, {}))
    made["extra_vars"], made["extra_vars_files"] = made.get("extra_vars", ({}, ()))
    good = True
    for key, only in (("install", "guest"), ("ask_become_pass", "host"), ("inventory", "host")):
        node = table.get(key)
        if node is not None and made.get("mode", "host") != only:
            at.add(node, f"only with mode: {only}")
            good = False
    if not good:
        raise Rejected
    return Ansible(name="", **made)


def _environment() -> MapOf:
    return MapOf(word(), VARIABLE, VARIABLE_WHY)


ANSIBLE_FIELDS: Mapping[str, Field] = {
    "playbook": Field(FILE, "The playbook; relative to this file."),
    "playbooks": Field(ListOf(FILE), "Several playbooks, in one run."),
    "mode": Field(choice(*get_args(Side)), "Where Ansible runs: on the host, or inside the guest.", default="host"),
    "install": Field(choice(*get_args(Install)), "mode: guest: how a guest without Ansible gets it.", default="auto"),
    "groups": Field(
        Groups(), "Inventory groups: lists of machines, patterns and groups, or {hosts, children, vars}.", default={}
    ),
    "host_vars": Field(HostVars(), "Variables by machine or pattern.", default={}),
    "inventory": Field(ListOf(EXISTING), "Further inventory sources; vmctl's own wins over them.", default=[]),
    "extra_vars": Field(ExtraVars(), "Variables that win over all others: a mapping, @FILE, or a list.", default={}),
    "limit": Field(text("a pattern"), "An Ansible pattern: only hosts that match it as well."),
    "tags": Field(ListOf(text()), "Run only what has one of these tags.", default=[]),
    "skip_tags": Field(ListOf(text()), "Leave out what has one of these tags.", default=[]),
    "start_at_task": Field(text("a task's name"), "Begin with this task."),
    "become": Field(flag(), "Whether tasks run as root unless they say otherwise.", default=False),
    "become_user": Field(text("a user's name"), "Whom `become` becomes."),
    "ask_become_pass": Field(flag(), "Ask for the password that `become` needs.", default=False),
    "vault": Field(Vault(), "The vault's password: a file (or program), prompt, or {ID: FILE or prompt}."),
    "forks": Field(whole(1, MOST_FORKS), "On how many machines at once; default: all, 5 to 50."),
    "strategy": Field(
        text("a strategy", r"(?!debug$)[a-z_][a-z0-9_.]*", "a strategy such as linear, free or host_pinned"),
        "In which order hosts do their tasks.",
    ),
    "check": Field(flag(), "Only say what would change.", default=False),
    "diff": Field(flag(), "Show what changes in files.", default=False),
    "verbosity": Field(whole(0, MOST_VERBOSE), "How much Ansible says, as the number of -v.", default=0),
    "raw_arguments": Field(Arguments(), "Further arguments for ansible-playbook.", default=[]),
    "config_file": Field(FILE, "The ansible.cfg to use."),
    "env": Field(_environment(), "Environment variables for ansible-playbook.", default={}),
    "python_interpreter": Field(text("a path"), "The guest's Python, for Ansible's modules."),
    "playbook_command": Field(text("a program"), "The ansible-playbook to run; a path, or a name in PATH."),
    "requirements": Field(FILE, "Roles and collections to install for this project (ansible-galaxy's file)."),
}

ANSIBLE: Kind = Either(
    One("a playbook's path", lambda value, source: Ansible(name="", playbook=parse_file(value, source)), FILE.json),
    TableOf(ANSIBLE_FIELDS, _ansible, exactly_one=("playbook", "playbooks"), instead=INSTEAD),
    "a playbook's path or a mapping",
)
