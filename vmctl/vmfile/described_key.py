"""The description of a key of the top level or of machines, which everything that has to know the key goes by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from vmctl.spec import Effect
from vmctl.vmfile.structures import Field


def as_it_is(value: Any) -> Any:
    """The value."""
    return value


def each(write: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """As ``write``, for all of several."""
    return lambda several: [write(one) for one in several]


class Key(Field, frozen=True, kw_only=True):
    """A key of the top level or of machines: all that reading, the schema, `config`, `plan` and the manual need.

    Its value goes to the attribute of ``Project`` or ``MachineSpec`` that bears its name, or ``attribute``.
    """

    attribute: str = ""
    where: Literal["anywhere", "project", "user"] = "anywhere"
    """In whose Vmfile it makes sense: any, a project's, or the user's own."""
    write: Callable[[Any], Any] | None = as_it_is
    """From the value to what a Vmfile would write, for `config`; None = `config` does not show it."""
    effect: Effect | None = None
    """What it takes to apply a change to a machine that exists; None = nothing."""
    record: Callable[[Any], Any] = as_it_is
    """From the value to what a machine's record keeps, to tell later whether it has changed."""
    holds: str = ""
    """What the manual says of its values, where that does not follow from the kind."""
    otherwise: str = ""
    """What holds without the key, for the manual, where that is no default."""
    more: str = ""
    """What the manual says besides ``doc``."""
