"""Names that mean a box of vmctl's own: those of recipes and of the built-in catalogue. No other box may take them."""

from __future__ import annotations

import re

from vmctl.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_reserved(name: str) -> bool:
    """Whether a name is a recipe's or a built-in box's. Parses nothing: every command that reads a Vmfile asks."""
    import vmctl_boxes

    if not NAME.fullmatch(name):
        return False
    tables = {f"[{name}]", f'["{name}"]'}
    catalogue = vmctl_boxes.RECIPES / "catalogue"
    return (vmctl_boxes.RECIPES / name / "recipe.toml").is_file() or any(
        not tables.isdisjoint(path.read_text(encoding="utf-8").splitlines()) for path in catalogue.glob("*.toml")
    )


def check(name: str, origin: str) -> None:
    """See that a box from that origin may have the name.

    Raises:
        UsageError: it is the name of a box of vmctl's own, and this is another.
    """
    if origin != name and is_reserved(name):
        raise UsageError(
            f"the name {name} belongs to a box of vmctl's own, which this is not",
            details="Every project that says so would start from this one.",
            hint=f"vmctl box add … --name my-{name}",
        )
