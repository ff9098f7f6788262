"""What expressions may cost (bounds on work, size and depth), and the plain data that they work on.

They are counted and not timed, so that a Vmfile that loads on one host loads on all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from vmctl.vmfile.faults import describe

ITEM = 16
"""What an item of a list, an entry of a mapping or a step costs; a character costs 1, one beyond ASCII 4."""
LARGEST = 1_000_000
"""What a single value may measure."""
EACH = 8_000_000
"""What one expression may spend: on its steps, on what it looks at and on what it makes."""
TOGETHER = 64_000_000
"""What all expressions of a Vmfile may spend, for variables may double each other."""
DEEPEST = 50
LARGEST_NUMBER = 10**30
LONGEST_NUMBER = 64
"""Digits of what is read as a number."""


class CannotEvaluate(Exception):
    """An expression has no value; the message says why."""


class Undefined(CannotEvaluate):
    """There is no such value; the filter ``default`` and the tests ``defined`` and ``undefined`` may follow."""


class Budget(Struct):
    """What is left for the expressions of one Vmfile."""

    left: int = TOGETHER
    own: int = EACH
    """For the expression at hand."""

    def begin(self) -> None:
        """Go on to the next expression."""
        self.own = EACH

    def spend(self, units: int) -> None:
        """Pay for work before it is done.

        Raises:
            CannotEvaluate: too little is left.
        """
        self.own -= units
        self.left -= units
        if self.own < 0:
            raise CannotEvaluate("too much work for an expression")
        if self.left < 0:
            raise CannotEvaluate("the Vmfile's expressions are too much work together")

    def room(self, units: int) -> None:
        """See that a value of this size may be made, and pay for it.

        Raises:
            CannotEvaluate: it would be too large.
        """
        if units > LARGEST:
            raise CannotEvaluate("gives too large a value")
        self.spend(units)

    def inspect(self, value: Any) -> None:
        """Pay for looking at all of a value."""
        self.spend(size(value))


def text_size(text: str) -> int:
    """What a text measures."""
    return len(text) if text.isascii() else 4 * len(text)


def size(value: Any) -> int:
    """What a value measures, with everything below it; counting ends beyond ``EACH``."""
    total, rest = 0, [iter((value,))]
    while rest and total <= EACH:
        for item in rest[-1]:
            total += text_size(item) if isinstance(item, str) else 0
            total += ITEM
            if isinstance(item, list | dict):
                rest.append(_below(item))
                break
        else:
            rest.pop()
    return total


def _below(value: list[Any] | dict[str, Any]) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
        return
    for key, item in value.items():
        yield key
        yield item


def plain_copy(value: Any, deepest: int = DEEPEST) -> Any:
    """A copy of exact built-in types: None, bool, int, float, str, list and dict with text as keys.

    Raises:
        CannotEvaluate: it holds something else, or is too deep or too large a number.
    """
    if deepest < 0:
        raise CannotEvaluate("gives too deep a value")
    match value:
        case None | bool():
            return value
        case int():
            return _small(int(value))
        case float():
            return float(value)
        case str():
            return "".join(value)
        case list() | tuple():
            return [plain_copy(item, deepest - 1) for item in value]
        case dict():
            return {"".join(str(key)): plain_copy(item, deepest - 1) for key, item in value.items()}
    raise CannotEvaluate(f"gives {type(value).__name__.replace('_', ' ')}, not a value")


def _small(number: int) -> int:
    if abs(number) > LARGEST_NUMBER:
        raise CannotEvaluate("gives too large a number")
    return number


def text_of(value: Any) -> str:
    """A value as text, as Jinja2 writes it."""
    return value if isinstance(value, str) else str(value)


def require_text(value: Any) -> str:
    """A value that must be text; a number counts as one.

    Raises:
        CannotEvaluate: it is none.
    """
    if isinstance(value, list | dict):
        raise CannotEvaluate(f"expected text, got {describe(value)}")
    return text_of(value)


def require_whole(value: Any, what: str) -> int:
    """A value that must be a whole number; ``what`` says so.

    Raises:
        CannotEvaluate: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise CannotEvaluate(f"expected {what}, got {describe(value)}")
    return value


def items_of(budget: Budget, value: Any) -> list[Any]:
    """What a list, a mapping (its keys) or a text (its characters) holds."""
    if not isinstance(value, str | list | dict):
        raise CannotEvaluate(f"expected a list, got {describe(value)}")
    budget.room(len(value) * ITEM)
    return list(value)


def require_mapping(value: Any) -> dict[str, Any]:
    """A value that must be a mapping.

    Raises:
        CannotEvaluate: it is none.
    """
    if not isinstance(value, dict):
        raise CannotEvaluate(f"expected a mapping, got {describe(value)}")
    return value


def value_at(value: Any, dotted: str | int) -> Any:
    """What lies below a value: keys and numbers, joined by dots.

    Raises:
        CannotEvaluate: nothing does.
    """
    for name in str(dotted).split("."):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and len(name) < LONGEST_NUMBER and int(name) < len(value):
            value = value[int(name)]
        else:
            raise CannotEvaluate(f"{describe(value)} has no '{name}'")
    return value


def attribute_of(item: Any, *, attribute: Any, **default: Any) -> Any:
    """As ``value_at``; another value where nothing lies there, if one is given."""
    try:
        return value_at(item, attribute)
    except CannotEvaluate:
        if set(default) != {"default"}:
            raise
        return default["default"]


def in_words(error: Exception) -> str:
    """What is wrong with the arguments, without the names of our functions."""
    message = str(error)
    if isinstance(error, TypeError) and "argument" in message:
        return "wrong arguments"
    return message or type(error).__name__
