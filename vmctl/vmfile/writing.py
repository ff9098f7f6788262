"""Plain values as YAML text, with a comment after each single value where one is wanted; and `vmctl init`'s Vmfile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vmctl.errors import UsageError
from vmctl.layout import VMFILE
from vmctl.vmfile.box_refs import parse_box
from vmctl.vmfile.nodes import EXPRESSION, Source, join
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.scalars import resolve
from vmctl.vmfile.templating import STATEMENT

MARKS = ("{{", "{%")
SPECIAL = re.compile(r"\{*(?:\{\{|\{%|[\x00-\x08\x0b-\x1f])")
"""What begins an expression or a statement, and what Jinja2 would change in a text (\\r); with the braces before it,
which would begin another one with those that are written for it."""
SPECIAL_IN_QUOTES = re.compile(r"['\\\x00-\x1f]")
PLAIN = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9_./~@+-]*( [A-Za-z0-9_./~@+-]+)*")


def to_yaml(value: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """The mapping as a Vmfile that means it: what looks like an expression is written as text of one.

    ``comments`` maps dotted paths of single values to text.
    """
    return "".join(f"{line}\n" for line in _table(value, "", "", comments or {}))


def _table(value: Mapping[Any, Any], path: str, indent: str, comments: Mapping[str, str]) -> Iterator[str]:
    for key, item in value.items():
        yield from _entry(f"{indent}{scalar(str(key))}:", item, join(path, key), indent + "  ", comments)


def _list(value: list[Any], path: str, indent: str, comments: Mapping[str, str]) -> Iterator[str]:
    for number, each in enumerate(value):
        item, below = _written(each), join(path, number)
        if item and isinstance(item, Mapping | list):
            inner = indent + "  "
            lines = (
                _table(item, below, inner, comments)
                if isinstance(item, Mapping)
                else _list(item, below, inner, comments)
            )
            for place, line in enumerate(lines):
                yield f"{indent}- {line[len(inner) :]}" if place == 0 else line
        else:
            yield from _entry(f"{indent}-", each, below, indent, comments)


def _entry(head: str, item: Any, path: str, indent: str, comments: Mapping[str, str]) -> Iterator[str]:
    item = _written(item)
    if item and isinstance(item, Mapping):
        yield head
        yield from _table(item, path, indent, comments)
    elif item and isinstance(item, list):
        yield head
        yield from _list(item, path, indent, comments)
    else:
        comment = comments.get(path)
        yield f"{head} {scalar(item)}" + (f"  # {comment}" if comment else "")


def _written(item: Any) -> Any:
    """The value as a Vmfile can say it: as it is, or as the text of an expression that gives it."""
    if isinstance(item, str):
        return literal(item)
    if isinstance(item, Mapping) and any(mark in str(key) for key in item for mark in MARKS):
        return f"{{{{ {_expression(item)} }}}}"  # a key in YAML cannot say it
    return item


def literal(text: str) -> str:
    """A text as a string of a Vmfile that gives it, braces and all."""
    if EXPRESSION not in text and not STATEMENT.search(text):
        return text
    if text.strip() in MARKS:  # would be one expression, which blanks around it are no part of
        return f"{{{{ {_expression(text)} }}}}"
    return SPECIAL.sub(lambda found: f"{{{{ {_expression(found[0])} }}}}", text)


def _expression(value: Any) -> str:
    """A value as an expression that gives it."""
    match value:
        case str():
            return "'" + SPECIAL_IN_QUOTES.sub(lambda found: f"\\x{ord(found[0]):02x}", value) + "'"
        case Mapping():
            return "{" + ", ".join(f"{_expression(str(key))}: {_expression(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_expression, value)) + "]"
    return scalar(value).replace("null", "none")


def scalar(value: Any) -> str:
    """A single value (or an empty list or mapping) as YAML 1.2 reads it back."""
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) and resolve(value) == value else _quoted(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    return str(value) if isinstance(value, int) else "{}" if isinstance(value, Mapping) else "[]"


def _number(value: float) -> str:
    text = repr(value)
    return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(text, text)


def _quoted(text: str) -> str:
    import yaml

    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))
    return quoted.rstrip("\n")


DEFAULT_BOX = "debian-12"

STARTER = """\
# yaml-language-server: $schema={schema}
# What every key means: docs/vmfile.md of vmctl, or `vmctl schema`. Check this file with `vmctl validate`.
box: {box}
cpus: 2
memory: 1GiB

# This directory is /project in the machine. More folders: HOST:GUEST[:ro]
# synced_folders: [.:/project, ./data:/srv/data:ro]

# Ports of this host that lead into the machine: HOST:GUEST
# ports: ["8080:80"]

# What sets the machine up, once, in this order.
# provision:
#   - shell: {{inline: apt-get update}}
#   - ansible: playbooks/site.yml

# Several machines instead of one; what stands above holds for each.
# machines:
#   web: {{depends_on: [db]}}
#   db: {{memory: 2GiB}}
"""


def starter(box: str, schema: str) -> str:
    """The text of a new Vmfile.

    Args:
        box: what the machine starts from.
        schema: where editors find the JSON Schema, from the Vmfile's directory.
    """
    return STARTER.format(box=scalar(box), schema=schema)


def checked_box(box: str, directory: Path) -> str:
    """``box`` as it may stand in a Vmfile of the directory.

    Raises:
        UsageError: it names no box.
    """
    try:
        parse_box(box, Source(VMFILE, directory))
    except Mismatch as error:
        raise UsageError(str(error), hint=f"vmctl init {DEFAULT_BOX}") from error
    return box
