"""JSON as strangers write it: whatever is wrong with a text is one kind of error.

Python's decoder lets numbers, nesting and halves of characters through that its encoder, ``str``, a file or a recursive
function then trips over, and reports some of the rest as ``RecursionError``.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

DEEPEST = 100
LONGEST_NUMBER = 1000
"""Digits; Python refuses to show one of 4,301 (``sys.set_int_max_str_digits``), also one that it computed."""

HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
HALF_IN_BYTES = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
"""Where half a character may be; so it may as well be one of two that belong together."""


def loads(text: str | bytes) -> Any:
    """The value of a JSON text (RFC 8259). Halves of characters, which no encoding has, become U+FFFD.

    Raises:
        ValueError: it is no JSON, nested deeper than ``DEEPEST``, or has a number that nothing could mean.
    """
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_refused)
    except RecursionError:
        raise _too_deep() from None
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return value if _is_whole(text) else _mended(value)
    raise _too_deep()


def _is_whole(text: str | bytes) -> bool:
    """Whether nothing in a JSON text can be half a character: its escapes begin with D8 to DF, its bytes with ED."""
    return not (HALF.search(text) if isinstance(text, str) else HALF_IN_BYTES.search(text))


def _mended(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_mended(one) for one in value]
        case dict():
            return {_mended(name): _mended(one) for name, one in value.items()}
    return value


def _too_deep() -> ValueError:
    return ValueError(f"it is nested deeper than {DEEPEST} levels")


def _float(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refused(digits)


def _refused(number: str) -> NoReturn:
    raise ValueError(f"{number[:40]} is no number")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)
