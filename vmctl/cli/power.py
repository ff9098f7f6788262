"""`vmctl halt`, `suspend`, `resume` and `reload`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.report import machine_object
from vmctl.cli.shared_options import PARALLEL, limits

if TYPE_CHECKING:
    from vmctl.lifecycle.machine_job import Step
    from vmctl.spec import Occasion
    from vmctl.workspace import Machine, Workspace

NAMES = click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.machines)


def _run(
    app: App, names: tuple[str, ...], steps: Sequence[Step], event: Occasion, past: str, *, parallel: int | None
) -> None:
    """Run steps that take machines down: dependents first."""
    from vmctl.lifecycle import fleet, triggers
    from vmctl.lifecycle.machine_job import Job

    workspace = app.select(names, orphans=True, salvage=True)
    with workspace.locked(app.names):
        jobs = [Job(workspace, machine) for machine in workspace.survey(app.names)]
        around = triggers.around(workspace.project, event, steps)
        idle = [job.name for job in jobs if not any(step.when(job) for step in steps)]
        fleet.run(jobs, around, reverse=True, limits=limits(workspace, parallel)).raise_failure()
        machines = workspace.survey(app.names)
    changed = [machine.name for machine in machines if machine.name not in idle]
    text = "\n".join(f"{machine.name}: {machine.state_text}" for machine in machines)
    app.done(
        {"changed": bool(changed), "machines": [machine_object(machine) for machine in machines], "verb": past}, text
    )


@command()
@NAMES
@click.option("--force", is_flag=True, help="Cut the power instead of asking the guest to shut down.")
@PARALLEL
def halt(app: App, names: tuple[str, ...], *, force: bool, parallel: int | None) -> None:
    """Shut machines down; a guest that does not react in time loses its power."""
    from vmctl.lifecycle import verbs

    _run(app, names, verbs.POWER_OFF if force else verbs.HALT, "halt", "halted", parallel=parallel)


@command()
@NAMES
@PARALLEL
def suspend(app: App, names: tuple[str, ...], *, parallel: int | None) -> None:
    """Save running machines' memory to disk and stop them; `up` or `resume` goes on from there."""
    from vmctl.lifecycle import verbs

    _run(app, names, verbs.SUSPEND, "suspend", "suspended", parallel=parallel)


def _select_rising(app: App, names: tuple[str, ...]) -> Workspace:
    """Select machines to start again; none named = those that exist or start by themselves."""
    workspace = app.select(names)
    if not names:
        machines = workspace.survey()
        app.names = tuple(one.name for one in machines if one.observed or (one.spec and one.spec.autostart))
    return workspace


def _suspended(machines: Sequence[Machine], *, named: bool) -> tuple[str, ...]:
    """The names of those that can go on; of machines that nobody named, those that are off are left out.

    Raises:
        WrongState: a machine that was named is off, or all are.
    """
    from vmctl.driver import State
    from vmctl.errors import WrongState

    kept = [one for one in machines if named or one.state not in (None, State.STOPPED, State.CRASHED)] or machines
    for machine in kept:
        if machine.state not in (State.SAVED, State.PAUSED, State.RUNNING):
            raise WrongState(
                f"machine {machine.name} is {machine.state_text}, not suspended", hint=f"vmctl up {machine.name}"
            )
    return tuple(machine.name for machine in kept)


@command()
@NAMES
@PARALLEL
def resume(app: App, names: tuple[str, ...], *, parallel: int | None) -> None:
    """Continue suspended machines where they stopped; without names, those that are suspended."""
    from vmctl.lifecycle.up import Options, up

    workspace = _select_rising(app, names)
    app.names = _suspended(workspace.survey(app.names), named=bool(names))
    result = up(workspace, app.names, Options(provision=False, parallel=parallel, event="resume"))
    _tell_running(app, result.machines, "resumed")


@command()
@NAMES
@click.option("--force", is_flag=True, help="Cut the power instead of asking the guest to shut down.")
@click.option("--provision/--no-provision", default=None, help="Run all provisioners again / none at all.")
@PARALLEL
def reload(app: App, names: tuple[str, ...], *, force: bool, provision: bool | None, parallel: int | None) -> None:
    """Restart machines and apply changes to the Vmfile; those that are off or not there yet come up as with `up`."""
    from vmctl.lifecycle import verbs
    from vmctl.lifecycle.up import Options, up

    workspace = _select_rising(app, names)
    down = verbs.POWER_OFF if force else verbs.HALT
    options = Options(provision=provision, parallel=parallel, event="reload")
    result = up(workspace, app.names, options, steps=(*down, *verbs.UP), reload=app.reload)
    _tell_running(app, result.machines, "reloaded")


def _tell_running(app: App, machines: Sequence[object], past: str) -> None:
    from vmctl.workspace import Machine

    known = [machine for machine in machines if isinstance(machine, Machine)]
    text = "\n".join(f"{machine.name}: {machine.state_text}" for machine in known)
    app.done({"changed": True, "machines": [machine_object(machine) for machine in known], "verb": past}, text)
