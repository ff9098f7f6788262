"""Sizes and durations: how they are written, and how they are written back."""

from __future__ import annotations

import re
from typing import Any

from vmctl.vmfile.faults import describe

UNITS = {
    "B": 1,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
}
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")
SIZE_PATTERN = rf"^[0-9]+(\.[0-9]+)? ?({'|'.join(UNITS)})$"
SIZE_WORDS = "a size such as 512MiB or 2GiB"

SECONDS = {"s": 1, "m": 60, "h": 3600}
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh])")
DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?[smh]$"
DURATION_WORDS = "a duration: seconds, or 90s, 5m, 1h"


class Mismatch(ValueError):
    """A value is not what its key wants; the message says what is wanted."""


def parse_size(value: Any) -> int:
    """Bytes, from a number of bytes or a text with a unit.

    Raises:
        Mismatch: it is not a size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Mismatch(f"expected {SIZE_WORDS}, got {describe(value)}")
    number, unit = match.groups()
    if unit not in UNITS:
        raise Mismatch(f"unknown size unit '{unit}'{_nearest_size(number, unit)}")
    size = float(number) * UNITS[unit] if "." in number else int(number) * UNITS[unit]
    if size != int(size):
        raise Mismatch(f"'{value}' is not a whole number of bytes")
    return int(size)


def _nearest_size(number: str, unit: str) -> str:
    """What people most likely mean: binary units, as hypervisors count memory."""
    prefix = unit[0].upper()
    rest = unit[1:].lower()
    if prefix in "KMGT" and rest in ("", "b", "i", "ib"):
        return f", did you mean {number}{prefix}iB?"
    return f"; units are {', '.join(UNITS)}"


def format_size(size: int) -> str | int:
    """The shortest exact way to write a size."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return size


def parse_duration(value: Any) -> float:
    """Seconds, from a number or a text with a unit.

    Raises:
        Mismatch: it is not a duration.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Mismatch(f"expected {DURATION_WORDS}, got {describe(value)}")
    number, unit = match.groups()
    return float(number) * SECONDS[unit]


def format_duration(seconds: float) -> int | float:
    """A duration as a number, whole where it is."""
    return int(seconds) if seconds == int(seconds) else seconds
