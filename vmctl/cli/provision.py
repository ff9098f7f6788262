"""`vmctl provision`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.shared_options import ONLY
from vmctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmctl.lifecycle.outcome import Outcome
    from vmctl.provision.summary import Summary
    from vmctl.provision.target import Mode
    from vmctl.workspace import Machine


@command()
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.hosts)
@ONLY
@click.option(
    "--from",
    "start",
    default="",
    metavar="NAME",
    shell_complete=completion.provisioners,
    help="Start with this provisioner.",
)
@click.option("--changed", is_flag=True, help="Only what has not succeeded yet with the inputs it has now.")
@click.option("--check", is_flag=True, help="Change nothing; show what playbooks would change.")
@click.option("--diff", is_flag=True, help="Show how files change.")
@click.option(
    "--target",
    metavar="TARGET",
    shell_complete=completion.targets,
    help="On servers of this target of `remotes:`, not on machines.",
)
@click.option("--limit", "limits", multiple=True, metavar="PATTERN", help="With --target: only these servers.")
@click.option("-y", "--yes", is_flag=True, help="With --target: do not ask.")
@click.option(
    "--confirm",
    "named",
    metavar="TARGET",
    shell_complete=completion.targets,
    help="With --target: the answer to `confirm: name`.",
)
def provision(
    app: App,
    names: tuple[str, ...],
    *,
    only: tuple[str, ...],
    start: str,
    changed: bool,
    target: str | None,
    limits: tuple[str, ...],
    yes: bool,
    named: str | None,
    **how: bool,
) -> None:
    """Run provisioners on running machines, or on servers (--target), done before or not.

    Those with `run: never` run only when --only or --from names them.
    """
    from vmctl.provision import Mode

    mode = Mode(**how)
    if target:
        from vmctl.cli import on_servers

        if changed:
            text = "--changed is for machines: what servers have had is not known here, others may have changed them"
            raise UsageError(text, hint=f"vmctl provision --target {target} --check")
        patterns = [*names, *limits]
        done = on_servers.provision(app, target, patterns, only=only, start=start, mode=mode, yes=yes, named=named)
    else:
        refuse_without_target(limit=bool(limits), yes=yes, confirm=bool(named))
        outcome = on_machines(app, names, only=only, start=start, force=not changed, mode=mode)
        outcome.raise_failure()
        done = outcome.summary
    data = {"changed": done.changed, "target": target, "provisioned": done.as_object()}
    app.done(data, _summary_text(done, check=mode.check))


def refuse_without_target(**options: bool) -> None:
    """Refuse options that are about servers, where no target is named.

    Raises:
        UsageError: one is given.
    """
    for name, given in options.items():
        if given:
            raise UsageError(f"--{name} is for servers", hint=f"add --target NAME, or leave --{name} out")


def on_machines(
    app: App, names: Sequence[str], *, only: Sequence[str], force: bool, mode: Mode, start: str = ""
) -> Outcome:
    """Provision machines that run; what failed is in the outcome."""
    from vmctl.lifecycle import machine_provisioning
    from vmctl.lifecycle.selection import Selection

    selection = Selection(only=tuple(only), start=start, force=force, mode=mode)
    workspace = app.select(names)
    if workspace.id is None:  # it was never up: to ask about it must not make it a project
        _running(workspace.survey(app.names), named=bool(names))
    with workspace.locked(app.names):
        machines = _running(workspace.survey(app.names), named=bool(names))
        return machine_provisioning.run(workspace, machines, selection)


def _summary_text(done: Summary, *, check: bool) -> str:
    """What became of each machine, a line each."""
    if not done.machines:
        return "nothing to do"
    past = "checked, nothing was changed" if check else "provisioned"
    counted = ("ok", "changed", "skipped")
    lines = []
    for name, result in done.machines.items():
        numbers = {key: getattr(result.counts, key) for key in counted}
        counts = ", ".join(f"{number} {key}" for key, number in numbers.items() if number or key == "ok")
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
