"""What expressions calculate, compare and test (`is …`): as Jinja2 does, with the budget first, as filters have it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from vmctl.vmfile.budget import Budget, CannotEvaluate, plain_copy, require_whole, size
from vmctl.vmfile.faults import describe
from vmctl.vmfile.filters import Function, on_text

ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow,
}  # fmt: skip
LARGEST_POWER = 1024
WORDS = {"-": "subtracted", "*": "multiplied", "/": "divided", "//": "divided"}
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


def calculated(budget: Budget, sign: str, left: Any, right: Any) -> Any:
    """What an arithmetic operator makes of two values.

    Raises:
        CannotEvaluate: they are of kinds that it does not take, or it would be too much work.
    """
    if sign == "+" and type(left) is type(right) and isinstance(left, str | list):
        budget.room(size([left, right]))
    elif not (isinstance(left, int | float) and isinstance(right, int | float)):
        if sign == "%":
            raise CannotEvaluate("text cannot be formatted with %; put expressions into it")
        if sign != "+":
            raise CannotEvaluate(f"only numbers can be {WORDS.get(sign, 'raised to a power')}")
        raise CannotEvaluate(f"{describe(left)} and {describe(right)} cannot be added; join text with ~")
    elif sign == "**" and (abs(left) > LARGEST_POWER or abs(right) > LARGEST_POWER):
        raise CannotEvaluate("too large a power")
    return plain_copy(ARITHMETIC[sign](left, right)) if sign != "+" or not isinstance(left, list) else left + right


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
