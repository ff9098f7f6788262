"""For authors of providers: what users may write below a provider's name in a Vmfile, each knob declared once.

A class announced as an entry point in the group ``vmctl.knobs``, under the provider's name, declares it::

    class MyKnobs(Struct, frozen=True, kw_only=True):
        '''What the user asked of mine beyond the common keys.'''

        pool: Annotated[str, Field(text("a pool's name", NAME, "not a pool's name"), "Where disks are kept.")] = ""
        nested: Annotated[bool, Field(flag(), "Whether the guest may run virtual machines itself.")] = False

Every knob has a default. Vmfiles are read by it, with faults at their places, and `vmctl schema` tells it to editors;
the provider reads ``MachineSpec.options`` by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from vmctl.errors import UsageError
from vmctl.spec import MachineSpec
from vmctl.vmfile.faults import Fault, Faults, Rejected
from vmctl.vmfile.kinds import choice, flag, parsed, text, whole
from vmctl.vmfile.nodes import Source, from_plain
from vmctl.vmfile.provider_keys import Section, fields
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Checked, Field, ListOf, MapOf

__all__ = [
    "Checked", "Fault", "Field", "ListOf", "MapOf", "Mismatch", "choice", "faults", "flag", "parsed", "read", "refusal",
    "text", "whole",
]  # fmt: skip

Knobs = TypeVar("Knobs", bound=Struct)
NOWHERE = Source("", Path())


def read(knobs: type[Knobs], options: Mapping[str, Any]) -> Knobs:
    """The knobs that ``faults`` found nothing wrong with."""
    return knobs(**Section(fields(knobs)).converted(from_plain(options, NOWHERE), _reading(Faults())))


def faults(knobs: type, provider: str, options: Mapping[str, Any]) -> Iterator[Fault]:
    """All that is wrong with a section, for machines that no Vmfile describes."""
    found = Faults()
    try:
        Section(fields(knobs)).read(from_plain(options, NOWHERE, provider), _reading(found))
    except Rejected:
        yield from (Fault(fault.path, fault.message) for fault in found.found.values())


def _reading(found: Faults) -> Reading:
    """For values that are no expressions any more."""
    return Reading(found, lambda node: node.value)


def refusal(spec: MachineSpec, found: Sequence[Fault]) -> UsageError:
    """One error that tells all faults of a machine, each with its place."""
    lines = [_line(spec, fault) for fault in found]
    if len(lines) == 1:
        return UsageError(lines[0])
    return UsageError(f"{len(lines)} faults in machine {spec.name!r}", details="\n".join(lines))


def _line(spec: MachineSpec, fault: Fault) -> str:
    place = spec.places.get(fault.path) or spec.places.get(fault.path.partition(".")[0])
    return f"{place}: " * bool(place) + f"machines.{spec.name}.{fault.path}: {fault.message}"
