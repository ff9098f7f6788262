"""`vmctl provision`, and `vmctl drift`: what provisioning would change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.report import table
from vmctl.cli.shared_options import ONLY
from vmctl.errors import UsageError

if TYPE_CHECKING:
    from vmctl.errors import VmctlError
    from vmctl.lifecycle.outcome import Outcome
    from vmctl.provision.summary import Summary
    from vmctl.provision.target import Mode
    from vmctl.workspace import Machine

VERDICTS = {"failed": "failed", "unreachable": "unreachable"}
DRIFTED = 1
NOT_ATTEMPTED: dict[str, Any] = {"verdict": "not attempted", "changed_tasks": [], "not_checked": []}


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


@command()
@click.argument("names", nargs=-1, metavar="[HOST]...", shell_complete=completion.hosts)
@click.option(
    "--target",
    metavar="TARGET",
    shell_complete=completion.targets,
    help="Servers of this target of `remotes:`, not machines.",
)
@click.option("--limit", "limits", multiple=True, metavar="PATTERN", help="With --target: only these servers.")
@ONLY
@click.option("--diff", is_flag=True, help="Show how files differ.")
def drift(
    app: App, names: tuple[str, ...], *, target: str | None, limits: tuple[str, ...], only: tuple[str, ...], diff: bool
) -> int:
    """Show which hosts differ from what the playbooks say: Ansible's check mode; nothing is changed.

    Exits with 0 when all are in sync, 1 when one has drifted, 4 when a check failed, 5 when one was unreachable.
    """
    from vmctl.provision import Mode

    refuse_without_target(limit=bool(limits) and not target)
    checked = _checked(app, [*names, *limits], target, only=only, mode=Mode(check=True, diff=diff))
    verdicts = {**_verdicts(checked.summary), **dict.fromkeys(checked.skipped, NOT_ATTEMPTED)}
    if error := checked.error:
        if checked.summary.machines:
            error.data["drift"] = verdicts
            error.details = "\n".join([_drift_text(verdicts), error.details]).strip()
        raise error
    app.done(
        {"target": target, "changed": False, "drift": verdicts},
        _drift_text(verdicts) if verdicts else "nothing to check",
    )
    return DRIFTED if any(one["verdict"] == "drifted" for one in verdicts.values()) else 0


class CheckResult(NamedTuple):
    """What a check said of each host, and what kept it from saying more."""

    summary: Summary
    error: VmctlError | None = None
    skipped: Sequence[str] = ()
    """Machines that were not looked at, because one that they depend on failed."""


def _checked(app: App, names: Sequence[str], target: str | None, *, only: tuple[str, ...], mode: Mode) -> CheckResult:
    from vmctl.cli import on_servers
    from vmctl.provision.failure import MachinesUnreachable, TasksFailed

    if not target:
        outcome = on_machines(app, names, only=only, force=True, mode=mode)
        return CheckResult(outcome.summary, outcome.failure(), tuple(outcome.skipped))
    try:
        return CheckResult(on_servers.provision(app, target, names, only=only, mode=mode))
    except (TasksFailed, MachinesUnreachable) as error:
        return CheckResult(error.summary, error)


def _verdicts(done: Summary) -> dict[str, dict[str, Any]]:
    """What became of each host → what it means; "in sync" says nothing of what cannot be checked."""
    return {
        name: {
            "verdict": VERDICTS.get(result.status.value) or ("drifted" if result.counts.changed else "in sync"),
            "changed_tasks": list(result.changed_tasks),
            "not_checked": list(result.not_checked),
        }
        for name, result in done.machines.items()
    }


def _drift_text(verdicts: Mapping[str, Mapping[str, Any]]) -> str:
    lines = table(("HOST", "VERDICT"), [(name, str(one["verdict"])) for name, one in verdicts.items()]).splitlines()
    lines += [f"{name}: would change: {task}" for name, one in verdicts.items() for task in one["changed_tasks"]]
    lines += [
        f"{name}: not checked: {', '.join(one['not_checked'])}" for name, one in verdicts.items() if one["not_checked"]
    ]
    return "\n".join(lines)
