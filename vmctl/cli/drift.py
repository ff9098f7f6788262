"""`vmctl drift`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.report import table
from vmctl.cli.shared_options import ONLY

if TYPE_CHECKING:
    from vmctl.errors import VmctlError
    from vmctl.provision.summary import Summary
    from vmctl.provision.target import Mode

VERDICTS = {"failed": "failed", "unreachable": "unreachable"}
DRIFTED = 1
NOT_ATTEMPTED: dict[str, Any] = {"verdict": "not attempted", "changed_tasks": [], "not_checked": []}


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
    from vmctl.cli import provision
    from vmctl.provision import Mode

    provision.refuse_without_target(limit=bool(limits) and not target)
    checked = _checked(app, [*names, *limits], target, only=only, mode=Mode(check=True, diff=diff))
    verdicts = {**_verdicts(checked.summary), **dict.fromkeys(checked.skipped, NOT_ATTEMPTED)}
    if error := checked.error:
        if checked.summary.machines:
            error.data["drift"] = verdicts
            error.details = "\n".join([_text(verdicts), error.details]).strip()
        raise error
    app.done(
        {"target": target, "changed": False, "drift": verdicts}, _text(verdicts) if verdicts else "nothing to check"
    )
    return DRIFTED if any(one["verdict"] == "drifted" for one in verdicts.values()) else 0


class CheckResult(NamedTuple):
    """What a check said of each host, and what kept it from saying more."""

    summary: Summary
    error: VmctlError | None = None
    skipped: Sequence[str] = ()
    """Machines that were not looked at, because one that they depend on failed."""


def _checked(app: App, names: Sequence[str], target: str | None, *, only: tuple[str, ...], mode: Mode) -> CheckResult:
    from vmctl.cli import on_servers, provision
    from vmctl.provision.failure import MachinesUnreachable, TasksFailed

    if not target:
        outcome = provision.on_machines(app, names, only=only, force=True, mode=mode)
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


def _text(verdicts: Mapping[str, Mapping[str, Any]]) -> str:
    lines = table(("HOST", "VERDICT"), [(name, str(one["verdict"])) for name, one in verdicts.items()]).splitlines()
    lines += [f"{name}: would change: {task}" for name, one in verdicts.items() for task in one["changed_tasks"]]
    lines += [
        f"{name}: not checked: {', '.join(one['not_checked'])}" for name, one in verdicts.items() if one["not_checked"]
    ]
    return "\n".join(lines)
