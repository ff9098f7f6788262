"""`vmctl halt`, `suspend`, `resume` and `reload`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vmctl.cli.app import App, command
from vmctl.cli.report import machine_object

if TYPE_CHECKING:
    from vmctl.lifecycle.job import Step

NAMES = click.argument("names", nargs=-1, metavar="[MACHINE]...")


def _run(app: App, names: tuple[str, ...], steps: Sequence[Step], past: str) -> None:
    """Run steps that take machines down: dependents first."""
    from vmctl.lifecycle import fleet
    from vmctl.lifecycle.job import Job

    workspace = app.select(names, orphans=True, salvage=True)
    with workspace.locked(app.names):
        jobs = [Job(workspace, machine) for machine in workspace.survey(app.names)]
        idle = [job.name for job in jobs if not any(step.when(job) for step in steps)]
        fleet.run(jobs, steps, reverse=True).raise_failure()
        machines = workspace.survey(app.names)
    changed = [machine.name for machine in machines if machine.name not in idle]
    text = "\n".join(f"{machine.name}: {machine.state_text}" for machine in machines)
    app.done(
        {"changed": bool(changed), "machines": [machine_object(machine) for machine in machines], "verb": past}, text
    )


@command()
@NAMES
@click.option("--force", is_flag=True, help="Cut the power instead of asking the guest to shut down.")
def halt(app: App, names: tuple[str, ...], *, force: bool) -> None:
    """Shut machines down; a guest that does not react in time loses its power."""
    from vmctl.lifecycle import verbs

    _run(app, names, verbs.POWER_OFF if force else verbs.HALT, "halted")


@command()
@NAMES
def suspend(app: App, names: tuple[str, ...]) -> None:
    """Save running machines' memory to disk and stop them; `up` or `resume` goes on from there."""
    from vmctl.lifecycle import verbs

    _run(app, names, verbs.SUSPEND, "suspended")


@command()
@NAMES
def resume(app: App, names: tuple[str, ...]) -> None:
    """Go on from where `suspend` stopped."""
    from vmctl.driver import State
    from vmctl.errors import WrongState
    from vmctl.lifecycle.up import Options, up

    workspace = app.select(names)
    for machine in workspace.survey(app.names):
        if machine.state not in (State.SAVED, State.PAUSED, State.RUNNING):
            raise WrongState(
                f"machine {machine.name} is {machine.state_text}, not suspended", hint=f"vmctl up {machine.name}"
            )
    result = up(workspace, app.names, Options(provision=False))
    _tell_running(app, result.machines, "resumed")


@command()
@NAMES
@click.option("--force", is_flag=True, help="Cut the power instead of asking the guest to shut down.")
@click.option("--provision/--no-provision", default=None, help="Run all provisioners again / none at all.")
def reload(app: App, names: tuple[str, ...], *, force: bool, provision: bool | None) -> None:
    """Restart machines, applying what the Vmfile has changed."""
    from vmctl.lifecycle import verbs
    from vmctl.lifecycle.up import Options, up

    workspace = app.select(names)
    down = verbs.POWER_OFF if force else verbs.HALT
    result = up(workspace, app.names, Options(provision=provision), steps=(*down, *verbs.UP), reload=app.reload)
    _tell_running(app, result.machines, "reloaded")


def _tell_running(app: App, machines: Sequence[object], past: str) -> None:
    from vmctl.workspace import Machine

    known = [machine for machine in machines if isinstance(machine, Machine)]
    text = "\n".join(f"{machine.name}: {machine.state_text}" for machine in known)
    app.done({"changed": True, "machines": [machine_object(machine) for machine in known], "verb": past}, text)
