"""Which box of vmctl's own takes the place of a well-known name whose server ends; a proposal, never taken silently."""

from __future__ import annotations

import fnmatch
import re
import tomllib

from msgspec import Struct

from vmctl.boxes import box_names


class Alias(Struct, frozen=True, kw_only=True):
    """A living box in place of another."""

    target: str
    """A recipe or an entry of the built-in catalogue."""
    same: bool
    """Whether it is the same release of the same distribution; else the nearest that is still supported."""

    @property
    def what(self) -> str:
        """What it is to the box whose place it takes."""
        return "its publisher's own image" if self.same else "the nearest that is still supported"

    @property
    def line(self) -> str:
        """What to write in the Vmfile."""
        return f"box: {self.target}"


def proposed(name: str) -> Alias | None:
    """What could take the place of ORG/NAME; None = nothing that is known. The first line of the table that fits."""
    import vmctl_boxes

    if "/" not in name or not box_names.is_name(name):
        return None
    table = tomllib.loads(vmctl_boxes.ALIASES.read_text(encoding="utf-8"))
    for section in ("same", "successor"):
        for pattern, target in table[section].items():
            if re.match(fnmatch.translate(pattern.lower()), name.lower()):
                return Alias(target=target, same=section == "same")
    return None
