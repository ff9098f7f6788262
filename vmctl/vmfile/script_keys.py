"""How ``shell``, ``file`` and ``reboot`` entries are written."""

from __future__ import annotations

import re
from typing import Any, get_args

from vmctl.provisioners import DEFAULT_REBOOT_TIMEOUT, File, Reboot, Shell, Side
from vmctl.vmfile.ansible_keys import VARIABLE, VARIABLE_WHY
from vmctl.vmfile.faults import Rejected, describe
from vmctl.vmfile.host_paths import EXISTING, FILE, GUEST_PATH_SCHEMA, guest_path, parse_existing, parse_script
from vmctl.vmfile.kinds import Kind, One, choice, duration, flag, parsed, text, word
from vmctl.vmfile.nodes import Source, Table
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Either, Field, FreeMap, ListOf, MapOf, TableOf

URL = r"https?://[^\s/]\S*|file:///\S+"
DIGEST = r"(?i:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})"
ACCOUNT = r"[A-Za-z_0-9][A-Za-z0-9_.-]{0,31}\$?"
MODE = re.compile(r"0?[0-7]{3,4}")
PATH = parsed("a path in the guest", guest_path, GUEST_PATH_SCHEMA)


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
