"""`vmctl provision`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vmctl.cli.app import App, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmctl.workspace import Machine


@command()
@click.argument("names", nargs=-1, metavar="[MACHINE]...")
@click.option("--only", multiple=True, metavar="NAME", help="Run this provisioner (and other --only ones) only.")
@click.option("--from", "start", default="", metavar="NAME", help="Begin with this provisioner.")
@click.option("--changed", is_flag=True, help="Only what has not succeeded yet with the inputs it has now.")
@click.option("--check", is_flag=True, help="Change nothing; tell what playbooks would change.")
@click.option("--diff", is_flag=True, help="Show how files change.")
def provision(
    app: App,
    names: tuple[str, ...],
    *,
    only: tuple[str, ...],
    start: str,
    changed: bool,
    check: bool,
    diff: bool,
) -> None:
    """Run provisioners on running machines, done before or not.

    Those with `run: never` run only when --only or --from names them.
    """
    from vmctl.lifecycle import provisioning
    from vmctl.provision import Mode

    workspace = app.select(names)
    with workspace.locked(app.names):
        machines = _running(workspace.survey(app.names), named=bool(names))
        mode = Mode(check=check, diff=diff)
        done = provisioning.run(workspace, machines, only=only, start=start, force=not changed, mode=mode)
    app.done({"changed": bool(done) and done["changed"], "provisioned": done}, _told(done, check=check))


def _told(done: dict[str, Any], *, check: bool) -> str:
    """What became of each machine, a line each."""
    if not done:
        return "nothing to do"
    past = "checked, nothing was changed" if check else "provisioned"
    counted = ("ok", "changed", "skipped")
    lines = []
    for name, result in done["machines"].items():
        counts = ", ".join(f"{result[key]} {key}" for key in counted if result[key] or key == "ok")
        lines.append(f"{name}: {past} ({counts})")
    return "\n".join(lines)


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
