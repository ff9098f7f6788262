"""How many machines a command works on at the same time, as the command line says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vmctl.lifecycle.capacity import Limits
    from vmctl.workspace import Workspace

PARALLEL = click.option(
    "--parallel", type=click.IntRange(min=1), metavar="N", help="Work on at most N machines at a time."
)


def limits(workspace: Workspace, parallel: int | None) -> Limits:
    """What the option says, else the Vmfile, else what the host can take."""
    from vmctl.lifecycle.capacity import Limits

    return Limits(at_once=parallel or workspace.project.parallel)
