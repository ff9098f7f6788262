"""Durations as values of keys."""

from __future__ import annotations

from typing import Any

from vmctl.vmfile.kinds import One, parsed
from vmctl.vmfile.quantities import DURATION_PATTERN, DURATION_WORDS, Mismatch, parse_duration

LONGEST_WAIT = 24 * 3600  # seconds


def duration(shortest: float = 1) -> One:
    """A time to wait, in seconds, between ``shortest`` and a day."""

    def parse(value: Any) -> float:
        seconds = parse_duration(value)
        if not shortest <= seconds <= LONGEST_WAIT:
            raise Mismatch(f"{seconds:g} seconds is not between {shortest:g} and {LONGEST_WAIT}")
        return seconds

    json = [
        {"type": "number", "minimum": shortest, "maximum": LONGEST_WAIT},
        {"type": "string", "pattern": DURATION_PATTERN},
    ]
    return parsed(DURATION_WORDS, parse, {"anyOf": json})
