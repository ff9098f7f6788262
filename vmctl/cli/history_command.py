"""`vmctl history`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.report import table

SHORT = 10  # digits of a commit
MANY = 3  # names that a cell still holds


@command(query=True)
@click.argument("hosts", nargs=-1, metavar="[HOST]...", shell_complete=completion.hosts)
@click.option(
    "--target", metavar="TARGET", shell_complete=completion.targets, help="Only runs on this target of `remotes:`."
)
@click.option("-n", "--lines", type=click.IntRange(min=1), default=20, metavar="N", help="How many runs (default: 20).")
def history(app: App, hosts: tuple[str, ...], *, target: str | None, lines: int) -> None:
    """Show what provisioning ran where, when, from which git commit, and with what result; the last run comes last."""
    from vmctl.provision import provision_history
    from vmctl.store import project_identity

    place = project_identity.find(app.vmfile_path().parent, app.home, report=app.report)
    runs = [
        run
        for run in (provision_history.read(place.layout(app.home)) if place else ())
        if (target is None or run.get("target") == target) and (not hosts or set(hosts) & set(run.get("hosts", ())))
    ][-lines:]
    rows = [_row(run) for run in runs]
    header = ("WHEN", "TARGET", "HOSTS", "PROVISIONERS", "COMMIT", "RESULT")
    app.result(
        {"runs": [_object(run) for run in runs]}, table(header, rows) if rows else "nothing has been provisioned yet"
    )


def _object(run: Mapping[str, Any]) -> dict[str, Any]:
    """One run for programs; each has the same keys."""
    keys = ("run", "at", "ended", "seconds", "target", "check", "user", "commit", "dirty", "provisioners", "hosts",
            "changed", "machines", "why")  # fmt: skip
    return {**{key: run.get(key) for key in keys}, "result": run.get("result", "unfinished")}


def _row(run: Mapping[str, Any]) -> tuple[str, ...]:
    commit = str(run.get("commit") or "")[:SHORT] + ("+" if run.get("dirty") else "")
    result = str(run.get("result", "unfinished"))
    if run.get("check"):
        result += " (check)"
    elif result == "done":
        result += "" if run.get("changed") else ", nothing changed"
    elif result == "failed" and (lost := _unreachable(run)):
        result += f", unreachable: {_some(lost)}"
    return (
        str(run["at"]).replace("T", " ").removesuffix("+00:00") + "Z",
        str(run.get("target") or "machines"),
        _some(run.get("hosts", ())),
        _some(run.get("provisioners", ())),
        commit or "none",
        result,
    )


def _unreachable(run: Mapping[str, Any]) -> list[str]:
    return [name for name, row in (run.get("machines") or {}).items() if row.get("status") == "unreachable"]


def _some(names: Any) -> str:
    known = [str(name) for name in names]
    return ", ".join(known) if len(known) <= MANY else f"{', '.join(known[:MANY])} and {len(known) - MANY} more"
