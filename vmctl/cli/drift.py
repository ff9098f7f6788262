"""`vmctl drift`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.report import table
from vmctl.cli.shared_options import ONLY

if TYPE_CHECKING:
    from vmctl.provision.target import Mode

VERDICTS = {"failed": "failed", "unreachable": "unreachable"}
DRIFTED = 1


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
    from vmctl.errors import VmctlError
    from vmctl.provision import Mode

    mode = Mode(check=True, diff=diff)
    provision.refuse_without_target(limit=bool(limits) and not target)
    try:
        done = _checked(app, [*names, *limits], target, only=only, mode=mode)
    except VmctlError as error:
        found = error.data.get("provisioned")
        if isinstance(found, Mapping):
            told = {**_verdicts(found), **_not_attempted(error.data.get("outcome"))}
            error.data["drift"] = told
            error.details = "\n".join([_text(told), error.details]).strip()
        raise
    told = _verdicts(done)
    app.done({"target": target, "changed": False, "drift": told}, _text(told) if told else "nothing to check")
    return DRIFTED if any(one["verdict"] == "drifted" for one in told.values()) else 0


def _checked(
    app: App, names: Sequence[str], target: str | None, *, only: tuple[str, ...], mode: Mode
) -> dict[str, Any]:
    from vmctl.cli import provision, servers

    if target:
        return servers.provision(app, target, names, only=only, mode=mode)
    return provision.on_machines(app, names, only=only, force=True, mode=mode)


def _verdicts(done: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What became of each host → what it means; "in sync" says nothing of what cannot be checked."""
    return {
        name: {
            "verdict": VERDICTS.get(row["status"]) or ("drifted" if row["changed"] else "in sync"),
            "changed_tasks": row["changed_tasks"],
            "not_checked": row["not_checked"],
        }
        for name, row in done.get("machines", {}).items()
    }


def _not_attempted(outcome: object) -> dict[str, dict[str, Any]]:
    """The machines that were not looked at, because one that they depend on failed."""
    rows = outcome if isinstance(outcome, Mapping) else {}
    left = [name for name, row in rows.items() if row["result"] == "not attempted"]
    return {name: {"verdict": "not attempted", "changed_tasks": [], "not_checked": []} for name in left}


def _text(told: Mapping[str, Mapping[str, Any]]) -> str:
    lines = table(("HOST", "VERDICT"), [(name, str(one["verdict"])) for name, one in told.items()]).splitlines()
    lines += [f"{name}: would change: {task}" for name, one in told.items() for task in one["changed_tasks"]]
    lines += [
        f"{name}: not checked: {', '.join(one['not_checked'])}" for name, one in told.items() if one["not_checked"]
    ]
    return "\n".join(lines)
