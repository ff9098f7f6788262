"""Names of providers that a Vmfile may use: the built-in ones, and plug-ins that are installed."""

from __future__ import annotations

import functools
import sys
from typing import Any

from vmctl.registry import BUILT_IN, GROUP
from vmctl.vmfile.faults import advise, describe
from vmctl.vmfile.kinds import parsed
from vmctl.vmfile.quantities import Mismatch

AUTO = "auto"


def installed() -> tuple[str, ...]:
    """The built-in providers and every installed plug-in."""
    return _installed(tuple(sys.path))


@functools.cache  # reads what every installed package says
def _installed(_search_path: tuple[str, ...]) -> tuple[str, ...]:
    from importlib.metadata import entry_points

    return tuple(dict.fromkeys((*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP)))))


def is_provider(name: str) -> bool:
    """Whether a mapping of this name holds a provider's own options."""
    return name in BUILT_IN or name in installed()


def _parse(value: Any) -> str:
    if not isinstance(value, str):
        raise Mismatch(f"expected a provider's name, got {describe(value)}")
    if value != AUTO and not is_provider(value):
        known = (AUTO, *installed())
        raise Mismatch(f"no provider '{value}' is installed{advise(value, known)}")
    return value


PROVIDER = parsed("a provider's name", _parse, {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"})
