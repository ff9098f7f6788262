"""How commands name boxes of the store: NAME[@VERSION], and by their source where a name is that of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmctl.boxes import Box
    from vmctl.errors import VmctlError

SOURCE = click.option("--source", metavar="ADDRESS", help="Only boxes from this address (`box list` shows it).")


def matching(boxes: Sequence[Box], ref: str | None, source: str | None = None) -> list[Box]:
    """The boxes that NAME[@VERSION] means (all where it is None), newest first."""
    from vmctl.boxes.versions import Constraint

    name, _, constraint = (ref or "").partition("@")
    allowed = Constraint.parse(constraint)
    there = [one for one in boxes if source is None or source in (one.origin, one.source)]
    return [one for one in there if not ref or (one.name == name and allowed.allows(one.order))]


def chosen(boxes: Sequence[Box], ref: str, source: str | None = None) -> list[Box]:
    """As ``matching``.

    Raises:
        VmctlError: there is none.
    """
    if found := matching(boxes, ref, source):
        return found
    raise absent(ref, source)


def absent(ref: str, source: str | None) -> VmctlError:
    """The error for boxes that the store has not."""
    from vmctl.errors import VmctlError

    words = ["there is no box", ref, "from" if source is not None else "", source or "", "in the store"]
    return VmctlError(" ".join(filter(None, words)), hint="vmctl box list")


def newest(boxes: Sequence[Box], ref: str, *, command: str) -> Box:
    """The newest of the chosen boxes, of this host's architecture where there is one.

    Raises:
        UsageError: they are of several origins.
    """
    from vmctl.boxes.box_names import host_architecture

    here = [one for one in boxes if one.arch == host_architecture()] or boxes
    first = {one.origin: one for one in reversed(here)}
    return only(list(first.values()), ref, command=command)


def only(boxes: Sequence[Box], ref: str, *, command: str) -> Box:
    """The one box that was chosen.

    Raises:
        UsageError: they are several.
    """
    from vmctl.errors import UsageError

    if len(boxes) > 1:
        raise UsageError(
            f"{ref} means several boxes: {', '.join(map(str, boxes))}",
            details="\n".join(f"{one} from {shown(one)}" for one in boxes),
            hint=f"{command} {precise(boxes[-1], boxes)}" + (", or --all" if "remove" in command else ""),
        )
    return boxes[0]


def precise(box: Box, others: Sequence[Box]) -> str:
    """How to name just this box."""
    from vmctl.errors import shell_command

    alike = [one for one in others if (one.name, one.version) == (box.name, box.version)]
    source = ("--source", shown(box)) if len({shown(one) for one in alike}) > 1 else ()
    return shell_command(f"{box.name}@{box.version}", *source)


def shown(box: Box) -> str:
    """Where a box is from, for people."""
    return box.origin or box.source
