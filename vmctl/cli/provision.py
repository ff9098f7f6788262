"""`vmctl provision`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vmctl.cli.app import App, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmctl.workspace import Machine


@command()
@click.argument("names", nargs=-1, metavar="[MACHINE]...")
@click.option("--only", multiple=True, metavar="NAME", help="Run this provisioner (and other --only ones) only.")
@click.option("--changed", is_flag=True, help="Only what has not succeeded yet with the inputs it has now.")
@click.option("--check", is_flag=True, help="Change nothing; tell what playbooks would change.")
@click.option("--diff", is_flag=True, help="Show how files change.")
def provision(
    app: App, names: tuple[str, ...], *, only: tuple[str, ...], changed: bool, check: bool, diff: bool
) -> None:
    """Run provisioners on running machines, done before or not.

    Those with `run: never` run only when --only names them.
    """
    from vmctl.lifecycle import provisioning
    from vmctl.provision import Mode

    workspace = app.select(names)
    with workspace.locked(app.names):
        machines = _running(workspace.survey(app.names), named=bool(names))
        mode = Mode(check=check, diff=diff)
        done = provisioning.run(workspace, machines, only=only, force=not changed, mode=mode)
    what = "checked, nothing was changed" if check else "provisioned"
    text = f"{', '.join(done['machines'])}: {what}" if done else "nothing to do"
    app.done({"changed": bool(done) and done["changed"], "provisioned": done}, text)


def _running(machines: Sequence[Machine], *, named: bool) -> list[Machine]:
    """The machines that run; one that the user named must.

    Raises:
        WrongState: a named machine does not run, or none does.
    """
    from vmctl.driver import State
    from vmctl.errors import WrongState

    running = [machine for machine in machines if machine.state is State.RUNNING]
    for machine in machines:
        if machine not in running and (named or not running):
            raise WrongState(
                f"machine {machine.name} is {machine.state_text}, not running", hint=f"vmctl up {machine.name}"
            )
    return running
