"""JSON as strangers write it: whatever is wrong with a text is one kind of error.

Python's decoder lets numbers and nesting through that its encoder, ``str`` or a recursive function then trips over, and
reports some of the rest as ``RecursionError``.
"""

from __future__ import annotations

import json
from typing import Any

DEEPEST = 100
LONGEST_NUMBER = 1000
"""Digits; Python refuses to show one of 4,301 (``sys.set_int_max_str_digits``), also one that it computed."""


def loads(text: str | bytes) -> Any:
    """The value of a JSON text (RFC 8259).

    Raises:
        ValueError: it is no JSON, nested deeper than ``DEEPEST``, or has a number that nothing could mean.
    """
    try:
        value = json.loads(text, parse_int=_integer)
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
            return value
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"it is nested deeper than {DEEPEST} levels")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)
