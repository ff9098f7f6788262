"""Plain values as YAML text, with a comment after each single value where one is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vmctl.vmfile.nodes import EXPRESSION, join
from vmctl.vmfile.scalars import resolve
from vmctl.vmfile.templating import STATEMENT

MARKS = ("{{", "{%")
SPECIAL = re.compile(r"\{\{|\{%|[\x00-\x08\x0b-\x1f]")
"""What begins an expression or a statement, and what Jinja2 would change in a text (\\r)."""
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
