"""The filters of expressions: Jinja2's, as far as they make plain data of plain data within known bounds.

Each takes the budget, the value and what stands in parentheses, and pays before it makes something larger than that.
They are our own, for Jinja2's reach for attributes, call what they find and bound nothing.
"""

# ruff: noqa: FBT002  these are Jinja2's signatures

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from vmctl.vmfile.budget import (
    ITEM,
    LONGEST_NUMBER,
    Budget,
    CannotEvaluate,
    Undefined,
    items_of,
    require_mapping,
    require_text,
    require_whole,
    size,
    text_of,
    text_size,
    value_at,
)  # fmt: skip
from vmctl.vmfile.faults import describe

Function = Callable[..., Any]
MOST_DIGITS = 30
WORD = re.compile(r"([-\s({\[<]+)")
MISSING = object()
"""For ``default``: there is no value."""


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _key(case_sensitive: Any, attribute: Any) -> Callable[[Any], Any]:
    def key(item: Any) -> Any:
        found = item if attribute is None else value_at(item, attribute)
        return found if case_sensitive else _folded(found)

    return key


def default(_budget: Budget, value: Any, default_value: Any = "", boolean: Any = False) -> Any:
    """Another value in place of one that is not there; with ``boolean`` also of one that counts as false."""
    return default_value if value is MISSING or (boolean and not value) else value


def _dictsort(
    _budget: Budget,
    value: Any,
    case_sensitive: Any = False,
    by: Any = "key",
    reverse: Any = False,
) -> Any:
    if by not in {"key", "value"}:
        raise CannotEvaluate("dictsort sorts by 'key' or 'value'")
    key = _key(case_sensitive, int(by == "value"))
    return sorted(([name, item] for name, item in require_mapping(value).items()), key=key, reverse=bool(reverse))


def _int(_budget: Budget, value: Any, default: Any = 0, base: Any = 10) -> Any:
    try:
        if isinstance(value, str):
            return _int_of_text(value[: LONGEST_NUMBER + 1], require_whole(base, "a base"))
        return int(value)
    except (ValueError, TypeError, OverflowError):
        return default


def _int_of_text(text: str, base: int) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(text)
    try:
        return int(text, base)
    except ValueError:
        return int(float(text))


def _float(_budget: Budget, value: Any, default: Any = 0.0) -> Any:
    try:
        return float(value)
    except (ValueError, TypeError, OverflowError):
        return default


def _join(budget: Budget, value: Any, between: Any = "", attribute: Any = None) -> str:
    parts = [item if attribute is None else value_at(item, attribute) for item in items_of(budget, value)]
    budget.room(sum(size(part) for part in parts) + len(parts) * text_size(require_text(between)))
    return require_text(between).join(text_of(part) for part in parts)


def _replace(budget: Budget, value: Any, old: Any, new: Any, count: Any = None) -> str:
    text, most = require_text(value), -1 if count is None else require_whole(count, "how many times")
    times = text.count(require_text(old))
    budget.room(text_size(text) + (times if most < 0 else min(times, most)) * max(1, text_size(require_text(new))))
    return text.replace(require_text(old), require_text(new), most)


def _reverse(budget: Budget, value: Any) -> Any:
    return value[::-1] if isinstance(value, str) else items_of(budget, value)[::-1]


def _round(_budget: Budget, value: Any, precision: Any = 0, method: Any = "common") -> int | float:
    digits = require_whole(precision, "how many digits")
    if not isinstance(value, int | float) or abs(digits) > MOST_DIGITS:
        raise CannotEvaluate(f"{describe(value)} cannot be rounded to {digits} digits")
    if method == "common":
        return round(value, digits)
    if method not in {"ceil", "floor"}:
        raise CannotEvaluate("round knows the methods 'common', 'ceil' and 'floor'")
    import math

    return float(getattr(math, method)(value * 10**digits) / 10**digits)


def _sort(
    budget: Budget,
    value: Any,
    reverse: Any = False,
    case_sensitive: Any = False,
    attribute: Any = None,
) -> list[Any]:
    return sorted(items_of(budget, value), key=_key(case_sensitive, attribute), reverse=bool(reverse))


def _split(budget: Budget, value: Any, between: Any = None, most: Any = -1) -> list[str]:
    text, most = require_text(value), require_whole(most, "how many times")
    budget.room(
        text_size(text) + ITEM * (len(text.split(between)) if between is None else text.count(require_text(between)))
    )
    return text.split(between, most)


def _sum(budget: Budget, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    numbers = [item if attribute is None else value_at(item, attribute) for item in items_of(budget, value)]
    if not all(isinstance(number, int | float) for number in (*numbers, start)):
        raise CannotEvaluate("only numbers can be summed")
    return sum(numbers, start)


def _tojson(budget: Budget, value: Any) -> str:
    budget.room(2 * size(value))
    return json.dumps(value, sort_keys=True)


def _truncate(
    _budget: Budget,
    value: Any,
    length: Any = 255,
    killwords: Any = False,
    end: Any = "...",
    leeway: Any = 5,
) -> str:
    text, keep = require_text(value), require_whole(length, "a length") - len(require_text(end))
    if keep < 0:
        raise CannotEvaluate("the length is less than that of the end")
    if len(text) <= length + require_whole(leeway, "a leeway"):
        return text
    return (text[:keep] if killwords else text[:keep].rsplit(" ", 1)[0]) + str(end)


def _unique(budget: Budget, value: Any, case_sensitive: Any = False, attribute: Any = None) -> list[Any]:
    key = _key(case_sensitive, attribute)
    found: dict[str, Any] = {}
    for item in items_of(budget, value):
        found.setdefault(json.dumps(key(item), sort_keys=True), item)
    return list(found.values())


def _extreme(choose: Function) -> Function:
    def extreme(budget: Budget, value: Any, case_sensitive: Any = False, attribute: Any = None) -> Any:
        items = items_of(budget, value)
        if not items:
            raise Undefined("the list is empty")
        return choose(items, key=_key(case_sensitive, attribute))

    return extreme


def _end(number: int) -> Function:
    def end(_budget: Budget, value: Any) -> Any:
        if not isinstance(value, str | list | dict):
            raise CannotEvaluate(f"expected a list, got {describe(value)}")
        if not value:
            raise Undefined("the list is empty")
        return next(iter(value) if number == 0 else reversed(value))

    return end


def on_text(change: Callable[..., Any]) -> Function:
    """A filter or test that is a method of texts."""
    return lambda _budget, value, *more: change(require_text(value), *map(require_text, more))


def _length(_budget: Budget, value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise CannotEvaluate(f"{describe(value)} has no length")
    return len(value)


def _list_of_items(budget: Budget, value: Any) -> list[Any]:
    budget.room(3 * ITEM * len(require_mapping(value)))
    return [[key, item] for key, item in value.items()]


def _string(budget: Budget, value: Any) -> str:
    budget.room(2 * size(value))
    return text_of(value)


def _title(text: str) -> str:
    return "".join(part[:1].upper() + part[1:].lower() for part in WORD.split(text))


FILTERS: Mapping[str, Function] = {
    "abs": lambda _budget, value: abs(value),
    "capitalize": on_text(str.capitalize),
    "count": _length,
    "d": default,
    "default": default,
    "dictsort": _dictsort,
    "first": _end(0),
    "float": _float,
    "int": _int,
    "items": _list_of_items,
    "join": _join,
    "last": _end(-1),
    "length": _length,
    "list": items_of,
    "lower": on_text(str.lower),
    "max": _extreme(max),
    "min": _extreme(min),
    "removeprefix": on_text(str.removeprefix),
    "removesuffix": on_text(str.removesuffix),
    "replace": _replace,
    "reverse": _reverse,
    "round": _round,
    "sort": _sort,
    "split": _split,
    "string": _string,
    "sum": _sum,
    "title": on_text(_title),
    "tojson": _tojson,
    "trim": on_text(str.strip),
    "truncate": _truncate,
    "unique": _unique,
    "upper": on_text(str.upper),
    "urlencode": on_text(lambda text: urllib.parse.quote(text, safe="/")),
}
"""Besides these there are those that take another filter or test by name: ``map``, ``select``, ``reject``,
``selectattr`` and ``rejectattr``."""

SAME = (
    "capitalize", "items", "lower", "removeprefix", "removesuffix", "replace", "split", "title", "upper",
)  # fmt: skip
METHODS: Mapping[str, str] = {
    **{name: f"x | {name}" for name in SAME},
    "endswith": "x is endswith('…')",
    "format": "'…' ~ x",
    "get": "x.key | default('…')",
    "join": "x | join('…')",
    "keys": "x | list",
    "lstrip": "x | trim",
    "rstrip": "x | trim",
    "splitlines": "x | split('\\n')",
    "startswith": "x is startswith('…')",
    "strip": "x | trim",
    "values": "x | items | map('last')",
}
"""Python's methods, and what an expression says instead."""


def advice_on(method: str) -> str:
    """What to write in place of a method's call; "" = nothing does the same."""
    advice = METHODS.get(method, "")
    return advice and f"; {'use the filter:' if '|' in advice else 'write:'} {{{{ {advice} }}}}"
