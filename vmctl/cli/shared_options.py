"""Options that several commands have, and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vmctl.cli import completion
from vmctl.cli.path_types import FromDirectory

if TYPE_CHECKING:
    from vmctl.lifecycle.capacity import Limits
    from vmctl.workspace import Workspace

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
    "--alias", is_flag=True, help="Let living images take the place of well-known boxes that no server has."
)


def limits(workspace: Workspace, parallel: int | None) -> Limits:
    """What the option says, else the Vmfile, else what the host can take."""
    from vmctl.lifecycle.capacity import Limits

    return Limits(at_once=parallel or workspace.project.parallel)
