"""Kinds of values: each reads a node, and says in JSON Schema what it takes. Both from one description."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from vmctl.errors import suggest
from vmctl.vmfile.faults import describe
from vmctl.vmfile.nodes import Node, Source
from vmctl.vmfile.quantities import DURATION_PATTERN, DURATION_WORDS, Mismatch, parse_duration
from vmctl.vmfile.reading import Reading

Schema = dict[str, Any]

EXPRESSION_SCHEMA: Schema = {"$ref": "#/$defs/expression"}


class Kind(Protocol):
    """What a key may hold."""

    def read(self, node: Node, at: Reading) -> Any:
        """The value; raises ``Rejected`` after recording why there is none."""

    def schema(self) -> Schema:
        """JSON Schema of what ``read`` takes."""


Convert = Callable[[Any, Source], Any]
"""From a templated scalar to a value; raises ``Mismatch`` with the message. The source says where paths start."""


class One(Struct, frozen=True):
    """A single value, converted by a function."""

    what: str
    convert: Convert
    json: Schema
    is_text: bool = False
    """Whether a number that an expression gives is as good as text (``"{{ vars.port }}"``)."""

    def read(self, node: Node, at: Reading) -> Any:
        """The converted value."""
        value = at.scalar(node, self.what)
        if self.is_text and node.is_expression and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        try:
            return self.convert(value, node.source)
        except Mismatch as error:
            at.reject_value(node, str(error) or f"expected {self.what}, got {describe(value)}")

    def schema(self) -> Schema:
        """The value, or an expression."""
        return {"anyOf": [self.json, EXPRESSION_SCHEMA]}


def parsed(what: str, parse: Callable[[Any], Any], json: Schema) -> One:
    """A single value whose meaning does not depend on the file that holds it."""
    return One(what, lambda value, _source: parse(value), json)


def text(what: str = "text", pattern: str = "", why: str = "") -> One:
    """Text; with a pattern, ``why`` says what is wrong with text that does not match."""
    matches = re.compile(pattern).fullmatch if pattern else None

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise Mismatch(f"expected {what}, got {describe(value)}{_quoting(value)}")
        if matches and not matches(value):
            raise Mismatch(f"{describe(value)}: {why}")
        return value

    return One(
        what,
        lambda value, _source: parse(value),
        {"type": "string", **({"pattern": f"^({pattern})$"} if pattern else {})},
        is_text=True,
    )


def _quoting(value: Any) -> str:
    return "; quote it to make it text" if isinstance(value, int | float | bool) else ""


def word() -> One:
    """Text that may be written as a number or a boolean (an argument, a variable of the environment)."""

    def parse(value: Any) -> str:
        if value is None or isinstance(value, list | dict):
            raise Mismatch
        return str(value).lower() if isinstance(value, bool) else str(value)

    return parsed("text", parse, {"type": ["string", "number", "boolean"]})


def whole(minimum: int, maximum: int, what: str = "a whole number") -> One:
    """An integer within bounds."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            quoted = isinstance(value, str) and value.isdecimal()
            raise Mismatch(f"expected {what}, got {describe(value)}" + ("; write it without quotes" if quoted else ""))
        if not minimum <= value <= maximum:
            raise Mismatch(f"{value} is not between {minimum} and {maximum}")
        return value

    return parsed(what, parse, {"type": "integer", "minimum": minimum, "maximum": maximum})


def flag() -> One:
    """True or false; YAML 1.1's yes and no are words, and refused with advice."""

    def parse(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(str(value).lower())
        raise Mismatch(f"expected true or false, got {describe(value)}" + (f", did you mean {meant}?" if meant else ""))

    return parsed("true or false", parse, {"type": "boolean"})


def choice(*allowed: str) -> One:
    """One of some words."""
    listed = ", ".join(allowed)

    def parse(value: Any) -> str:
        if value not in allowed or not isinstance(value, str):
            raise Mismatch(f"expected one of {listed}; got {describe(value)}{suggest(str(value), allowed)}")
        return value

    return parsed(f"one of {listed}", parse, {"enum": list(allowed)})


def quantity(kind: str, smallest: float, largest: float, pattern: str) -> dict[str, Any]:
    """The schema of a number between two others, or of text that says one with its unit."""
    return {"anyOf": [{"type": kind, "minimum": smallest, "maximum": largest}, {"type": "string", "pattern": pattern}]}


LONGEST_WAIT = 24 * 3600  # seconds


def duration(shortest: float = 1, longest: float = LONGEST_WAIT) -> One:
    """A time in seconds, between ``shortest`` and ``longest`` (a day)."""

    def parse(value: Any) -> float:
        seconds = parse_duration(value)
        if not shortest <= seconds <= longest:
            raise Mismatch(f"{seconds:g} seconds is not between {shortest:g} and {longest:g}")
        return seconds

    return parsed(DURATION_WORDS, parse, quantity("number", shortest, longest, DURATION_PATTERN))
