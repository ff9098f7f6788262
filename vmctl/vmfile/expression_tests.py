"""The tests of expressions (`is …`) and their comparisons: Jinja2's, with the budget first, as filters have it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from vmctl.vmfile.budget import require_whole
from vmctl.vmfile.filters import Function, on_text

COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "lteq": operator.le, "gt": operator.gt,
    "gteq": operator.ge, "in": lambda left, right: left in right, "notin": lambda left, right: left not in right,
}  # fmt: skip
"""By the names that Jinja2's parser has for them."""
SPELLED = {
    "==": "eq", "equalto": "eq", "eq": "eq", "!=": "ne", "ne": "ne", "<": "lt", "lt": "lt", "<=": "lteq", "le": "lteq",
    ">": "gt", "gt": "gt", ">=": "gteq", "ge": "gteq", "in": "in",
}  # fmt: skip
"""Tests that are such comparisons."""


def _remainder(value: Any, number: Any) -> int:
    """Of whole numbers only: % would format a text."""
    return require_whole(value, "a whole number") % require_whole(number, "a whole number")


def _compared(compare: Callable[[Any, Any], Any]) -> Function:
    return lambda _budget, value, other: compare(value, other)


TESTS: Mapping[str, Function] = {
    **{name: _compared(COMPARISONS[kind]) for name, kind in SPELLED.items()},
    "boolean": lambda _budget, value: isinstance(value, bool),
    "divisibleby": lambda _budget, value, number: _remainder(value, number) == 0,
    "endswith": on_text(str.endswith),
    "even": lambda _budget, value: _remainder(value, 2) == 0,
    "false": lambda _budget, value: value is False,
    "float": lambda _budget, value: isinstance(value, float),
    "integer": lambda _budget, value: isinstance(value, int) and not isinstance(value, bool),
    "iterable": lambda _budget, value: isinstance(value, str | list | dict),
    "lower": on_text(str.islower),
    "mapping": lambda _budget, value: isinstance(value, dict),
    "none": lambda _budget, value: value is None,
    "number": lambda _budget, value: isinstance(value, int | float),
    "odd": lambda _budget, value: _remainder(value, 2) == 1,
    "sequence": lambda _budget, value: isinstance(value, str | list | dict),
    "startswith": on_text(str.startswith),
    "string": lambda _budget, value: isinstance(value, str),
    "true": lambda _budget, value: value is True,
    "upper": on_text(str.isupper),
}
"""Besides these there are ``defined`` and ``undefined``."""
