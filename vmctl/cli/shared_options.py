"""Options and kinds of arguments that several commands have, and what they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmctl.cli import completion

if TYPE_CHECKING:
    from vmctl.lifecycle.capacity import Limits
    from vmctl.workspace import Workspace


class FromDirectory(click.Path):
    """An existing path; a relative one starts where ``-C`` says."""

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(exists=True, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, as it can be opened."""
        directory = ctx.find_root().params.get("directory") if ctx else None
        return super().convert(os.path.join(directory, value) if directory else value, param, ctx)  # noqa: PTH118  click's


PARALLEL = click.option(
    "--parallel", type=click.IntRange(min=1), metavar="N", help="Work on at most N machines at a time."
)

ONLY = click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.provisioners,
    help="Run only this provisioner; may be repeated.",
)

KEY = click.option(
    "--key", type=FromDirectory(dir_okay=False), help="The public key (cosign's) that must have signed it."
)

ALIAS = click.option(
    "--alias", is_flag=True, help="Use supported images in place of well-known boxes that no server has any more."
)


def limits(workspace: Workspace, parallel: int | None) -> Limits:
    """What the option says, else the Vmfile, else what the host can take."""
    from vmctl.lifecycle.capacity import Limits

    return Limits(at_once=parallel or workspace.project.parallel)
