"""Paths of the host as users type them: relative to ``-C``, and such as every file of vmctl's can hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from vmctl.errors import UsageError


class FromDirectory(click.Path):
    """An existing path; a relative one starts where ``-C`` says."""

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(exists=True, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, as it can be opened."""
        directory = ctx.find_root().params.get("directory") if ctx else None
        return super().convert(os.path.join(directory, value) if directory else value, param, ctx)  # noqa: PTH118  click's


def require_text(path: str | Path) -> None:
    """See that a path can be written down: records, Ansible's inventory and JSON are UTF-8.

    Raises:
        UsageError: its name is in another encoding.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise UsageError(f"{shown} has a name that is not UTF-8", hint="give it another name") from None
