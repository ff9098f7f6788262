"""Plain values as YAML text, with a comment after each single value where one is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vmctl.vmfile.nodes import join
from vmctl.vmfile.scalars import resolve

PLAIN = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9_./~@+-]*( [A-Za-z0-9_./~@+-]+)*")


def to_yaml(value: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """The mapping as a YAML document; ``comments`` maps dotted paths of single values to text."""
    return "".join(f"{line}\n" for line in _table(value, "", "", comments or {}))


def _table(value: Mapping[Any, Any], path: str, indent: str, comments: Mapping[str, str]) -> Iterator[str]:
    for key, item in value.items():
        yield from _entry(f"{indent}{scalar(str(key))}:", item, join(path, key), indent + "  ", comments)


def _list(value: list[Any], path: str, indent: str, comments: Mapping[str, str]) -> Iterator[str]:
    for number, item in enumerate(value):
        below = join(path, number)
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
            yield from _entry(f"{indent}-", item, below, indent, comments)


def _entry(head: str, item: Any, path: str, indent: str, comments: Mapping[str, str]) -> Iterator[str]:
    if item and isinstance(item, Mapping):
        yield head
        yield from _table(item, path, indent, comments)
    elif item and isinstance(item, list):
        yield head
        yield from _list(item, path, indent, comments)
    else:
        comment = comments.get(path)
        yield f"{head} {scalar(item)}" + (f"  # {comment}" if comment else "")


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
