"""How ``provision:`` is written: a list of entries, in order (``ansible:`` is in ``ansible_keys``)."""

from __future__ import annotations

import re
from typing import Any, get_args

from msgspec import Struct, structs

from vmctl.provisioners import DEFAULT_REBOOT_TIMEOUT, Ansible, File, Provisioner, Reboot, Run, Shell, Side
from vmctl.vmfile.ansible_keys import ANSIBLE, VARIABLE, VARIABLE_WHY
from vmctl.vmfile.faults import Rejected, describe
from vmctl.vmfile.host_paths import EXISTING, FILE, GUEST_PATH_SCHEMA, guest_path, parse_existing, parse_script
from vmctl.vmfile.kinds import Kind, One, Schema, choice, duration, flag, parsed, text, word
from vmctl.vmfile.machine_patterns import MachinePatterns
from vmctl.vmfile.nodes import Node, Scalar, Sequence, Source, Table
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.remote_keys import Targets
from vmctl.vmfile.structures import Either, Field, FreeMap, ListOf, MapOf, TableOf

URL = r"https?://[^\s/]\S*|file:///\S+"
DIGEST = r"(?i:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})"
ACCOUNT = r"[A-Za-z_0-9][A-Za-z0-9_.-]{0,31}\$?"
MODE = re.compile(r"0?[0-7]{3,4}")
PATH = parsed("a path in the guest", guest_path, GUEST_PATH_SCHEMA)
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
NAME_WHY = "a provisioner's name has 1 to 63 letters, digits, '.', '_' and '-'"
NAME = text("a name", NAME_PATTERN, NAME_WHY)
KINDS = ("shell", "ansible", "file", "reboot")


def _mode(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        raise Mismatch(f'write the mode in quotes: "{value:04d}"')
    if not isinstance(value, str) or not MODE.fullmatch(value):
        raise Mismatch(f'expected permission bits such as "0644", got {describe(value)}')
    return int(value, 8)


def _shell(values: dict[str, Any], table: Table, at: Reading) -> Shell:
    good = True
    for key, needs in (("url", "checksum"), ("checksum", "url")):
        if (node := table.get(key)) is not None and needs not in values:
            at.add(node, "a script from a URL needs its checksum: sha256:…" if key == "url" else "only with url")
            good = False
    if values.get("on") == "host":
        if values.get("become") and (node := table.get("become")) is not None:
            at.add(node, "vmctl runs nothing as root on the host")
            good = False
        values["become"] = False
    elif (node := table.get("creates")) is not None and not values["creates"].startswith("/"):
        at.add(node, f"expected an absolute path in the guest, got {describe(values['creates'])}")
        good = False
    if not good:
        raise Rejected
    return Shell(name="", **values)


SHELL: Kind = Either(
    One("a script's path", lambda value, source: Shell(name="", script=parse_script(value, source)), FILE.json),
    TableOf(
        {
            "inline": Field(text(), "Commands, run by /bin/sh."),
            "script": Field(FILE, "A script on the host; its first line says what runs it."),
            "url": Field(text("a URL", URL, "expected http://…, https://… or file:///…"), "A script to download."),
            "checksum": Field(
                text("a checksum", DIGEST, "expected sha256:HEX, sha384:HEX or sha512:HEX"), "What `url` must hash to."
            ),
            "args": Field(ListOf(word()), "Arguments.", default=[]),
            "env": Field(MapOf(word(), VARIABLE, VARIABLE_WHY), "Environment variables.", default={}),
            "become": Field(flag(), "Whether it runs as root (in the guest).", default=True),
            "on": Field(choice(*get_args(Side)), "Where it runs.", default="guest"),
            "creates": Field(text("a path"), "A path that says, when it is there, that this is done."),
        },
        _shell,
        exactly_one=("inline", "script", "url"),
    ),
    "a script's path or a mapping",
)


def _short_file(value: Any, source: Source) -> File:
    host, colon, guest = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not host:
        raise Mismatch(f"expected SOURCE:DESTINATION, got {describe(value)}")
    return File(name="", source=parse_existing(host, source), destination=guest_path(guest))


def _file(values: dict[str, Any], table: Table, at: Reading) -> File:
    variables = values.pop("vars", {})
    if (node := table.get("vars")) is not None and not values.get("template"):
        at.reject(node, "only with template: true")
    return File(name="", variables=variables, **values)


ACCOUNT_KIND = text("a name", ACCOUNT, "not a name of a user or a group")
FILE_ENTRY: Kind = Either(
    One("SOURCE:DESTINATION", _short_file, {"type": "string", "pattern": ".:/"}),
    TableOf(
        {
            "source": Field(EXISTING, "A file or directory of the host.", required=True),
            "destination": Field(PATH, "Its path in the guest; a directory is merged into it.", required=True),
            "mode": Field(
                parsed('permission bits such as "0644"', _mode, {"type": "string", "pattern": f"^{MODE.pattern}$"}),
                "Permission bits of the files; default: those of the source.",
            ),
            "owner": Field(ACCOUNT_KIND, "Whose it is; default: root's, without become the login user's."),
            "group": Field(ACCOUNT_KIND, "Its group."),
            "become": Field(flag(), "Whether it is written as root.", default=True),
            "template": Field(flag(), "Whether it is a Jinja2 template (in a directory: *.j2 are).", default=False),
            "vars": Field(FreeMap(), "Further `vars` for the template.", default={}),
        },
        _file,
    ),
    "SOURCE:DESTINATION or a mapping",
)


def _reboot(value: Any) -> Reboot:
    if value is not True:
        raise Mismatch(f"expected true or a mapping, got {describe(value)}; run: never keeps the entry without it")
    return Reboot(name="")


REBOOT: Kind = Either(
    parsed("true", _reboot, {"const": True}),
    TableOf(
        {"timeout": Field(duration(), "How long the guest may take to come back.", default=DEFAULT_REBOOT_TIMEOUT)},
        lambda values, _table, _at: Reboot(name="", **values),
    ),
    "true or a mapping",
)


class WrittenProvisioner(Struct, frozen=True):
    """One entry as it was written: the provisioner, and on which machines and where in their order it belongs."""

    item: Provisioner
    table: Table
    machines: tuple[str, ...] | None = None
    """None = all."""
    applies: bool = True
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class Condition(Kind):
    """An expression, with or without its braces, read to whether it holds."""

    def read(self, node: Node, at: Reading) -> bool:
        """Its truth."""
        if isinstance(node, Scalar) and isinstance(node.value, str) and not node.is_expression:
            braced = f"{{{{ {node.value} }}}}"
            node = Scalar(node.source, node.line, node.column, node.path, braced, braced)
        value = at.scalar(node, "a condition")
        if not isinstance(value, bool):
            at.reject_value(node, f"expected a condition that is true or false, got {describe(value)}")
        return value

    def schema(self) -> Schema:
        """Text or a boolean."""
        return {"type": ["string", "boolean"]}


class Names(Kind):
    """A provisioner's name or a list of them, read to a tuple."""

    def read(self, node: Node, at: Reading) -> tuple[str, ...]:
        """The names."""
        return tuple(NAME.read(item, at) for item in (node.items if isinstance(node, Sequence) else (node,)))

    def schema(self) -> Schema:
        """Text, or a list of texts."""
        return {"anyOf": [NAME.schema(), {"type": "array", "items": NAME.schema()}]}


def _written(values: dict[str, Any], table: Table, _at: Reading) -> WrittenProvisioner:
    made: Shell | Ansible | File | Reboot = next(values[kind] for kind in KINDS if kind in values)
    kept = {key: values[key] for key in ("name", "run", "sensitive", "inputs", "remotes") if key in values}
    item = structs.replace(made, **kept, place=table.place)
    return WrittenProvisioner(
        item,
        table,
        machines=values.get("machines"),
        applies=values.get("when", True),
        before=values.get("before", ()),
        after=values.get("after", ()),
    )


PROVISIONER = TableOf(
    {
        "shell": Field(SHELL, "Run a script, or commands, in the guest or on the host."),
        "ansible": Field(ANSIBLE, "Run a playbook on all machines that the entry applies to."),
        "file": Field(FILE_ENTRY, "Put a file, a directory or a filled-in template into the guest."),
        "reboot": Field(REBOOT, "Restart the guest and wait until it is back."),
        "name": Field(NAME, "What messages and --only call it; by default the file's name without its ending."),
        "run": Field(choice(*get_args(Run)), "When `vmctl up` runs it.", default="once"),
        "sensitive": Field(flag(), "Whether it puts in secrets: no layer holds them.", default=False),
        "inputs": Field(
            ListOf(EXISTING), "What it uses besides, of shared folders above all: it runs again when that changes."
        ),
        "remotes": Field(Targets(), "Whether it is for servers as well: true, false, or targets' names.", default=True),
        "when": Field(Condition(), "An expression: only machines for which it is true have this provisioner."),
        "machines": Field(MachinePatterns(), "Only these machines have it; names and patterns. Default: all."),
        "before": Field(Names(), "Provisioners that come later than this one."),
        "after": Field(Names(), "Provisioners that come earlier than this one."),
    },
    _written,
    exactly_one=KINDS,
)

PROVISION = ListOf(PROVISIONER)
