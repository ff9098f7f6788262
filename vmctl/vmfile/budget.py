"""What expressions may cost: bounds on work, size and depth.

They are counted and not timed, so that a Vmfile that loads on one host loads on all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

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

    def look(self, value: Any) -> None:
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
