"""`vmctl destroy`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from vmctl.cli.app import App, command
from vmctl.cli.limits import PARALLEL, limits


@command()
@click.argument("names", nargs=-1, metavar="[MACHINE]...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@PARALLEL
def destroy(app: App, names: tuple[str, ...], *, yes: bool, parallel: int | None) -> None:
    """Remove machines, their disks, and everything vmctl made for them. Boxes and your own files stay."""
    from vmctl.lifecycle import fleet, triggers, verbs
    from vmctl.lifecycle import names as naming
    from vmctl.lifecycle.job import Job

    workspace = app.select(names, orphans=True, salvage=True)
    if workspace.id is None:
        app.done({"changed": False, "destroyed": []}, "nothing to destroy")
        return
    with workspace.locked(app.names):
        jobs = [Job(workspace, machine) for machine in workspace.survey(app.names)]
        doomed = [job for job in jobs if job.machine.observed or job.machine.layout.root.exists()]
        if doomed and not yes:
            _confirm(app, [job.name for job in doomed])
        steps = triggers.around(workspace.project, "destroy", verbs.DESTROY)
        outcome = fleet.run(doomed, steps, reverse=True, limits=limits(workspace, parallel))
        if doomed:
            naming.refresh(workspace, naming.present_blocks(workspace), locked=app.names)
        outcome.raise_failure()
    gone = [job.name for job in doomed]
    app.done(
        {"changed": bool(gone), "destroyed": gone}, f"destroyed: {', '.join(gone)}" if gone else "nothing to destroy"
    )


def _confirm(app: App, names: Sequence[str]) -> None:
    app.confirm(f"destroy {', '.join(names)} and all data in {'them' if len(names) > 1 else 'it'}?", flag="--yes")
