"""How ``ready:`` is written: a list of checks, each one a port, an HTTP request, a command or a systemd unit."""

from __future__ import annotations

import re
from typing import Any

from vmctl.spec import ReadyCheck
from vmctl.vmfile.faults import describe
from vmctl.vmfile.kinds import Kind, duration, parsed, text, whole
from vmctl.vmfile.nodes import Table
from vmctl.vmfile.port_keys import NUMBER
from vmctl.vmfile.quantities import Mismatch, format_duration
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Field, ListOf, TableOf

WHAT = "a URL, or a path on port 80 of the guest"
URL = re.compile(r"https?://[^\s/?#]+([/?#]\S*)?|/\S*")
UNIT = r"[A-Za-z0-9@:_.\\-]{1,255}"
LOWEST_STATUS, HIGHEST_STATUS = 100, 599


def parse_url(value: Any) -> str:
    """A URL; a path means the guest's own port 80.

    Raises:
        Mismatch: it is neither.
    """
    if not isinstance(value, str) or not URL.fullmatch(value):
        raise Mismatch(f"expected {WHAT}, got {describe(value)}")
    return f"http://127.0.0.1{value}" if value.startswith("/") else value


def write(check: ReadyCheck) -> dict[str, Any]:
    """The check as a Vmfile would write it."""
    kinds = ("port", "http", "status", "command", "unit")
    words = {key: value for key in kinds if (value := getattr(check, key)) is not None}
    return {**words, "timeout": format_duration(check.timeout), **({"hint": check.hint} if check.hint else {})}


def _build(values: dict[str, Any], table: Table, at: Reading) -> ReadyCheck:
    if "status" in values and "http" not in values:
        at.reject(table.entries["status"].key, "goes with http only")
    return ReadyCheck(**values)


CHECK = TableOf(
    {
        "port": Field(NUMBER, "A TCP port of the guest that accepts connections."),
        "http": Field(
            parsed(WHAT, parse_url, {"type": "string", "pattern": f"^({URL.pattern})$"}),
            "A URL that answers when the guest asks; a path means port 80 of the guest.",
        ),
        "command": Field(text("a command"), "A command in the guest that succeeds."),
        "unit": Field(text("a systemd unit", UNIT, "not a systemd unit's name"), "A systemd unit that is active."),
        "status": Field(
            whole(LOWEST_STATUS, HIGHEST_STATUS), "The HTTP status that is wanted; default: any from 200 to 399."
        ),
        "timeout": Field(duration(), "How long it may take.", default=60),
        "hint": Field(text(), "What to tell whoever waits in vain."),
    },
    _build,
    exactly_one=("port", "http", "command", "unit"),
)

READY: Kind = ListOf(CHECK, most=100)
