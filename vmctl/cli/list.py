"""`vmctl list`: the machines of all projects. A hypervisor that cannot be asked leaves its machines unknown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmctl.cli.app import App, command
from vmctl.cli.report import table
from vmctl.errors import VmctlError
from vmctl.events import Warned

if TYPE_CHECKING:
    from vmctl.discovery import Discovery
    from vmctl.events import Report
    from vmctl.layout import ProjectLayout
    from vmctl.store.records import Record


@command("list", query=True)
def list_(app: App) -> None:
    """Show all machines of all projects of this user; the ids work with every command, in any directory."""
    from vmctl import machine_names
    from vmctl.discovery import Discovery

    recorded = {
        (project, name): (root, _record(app.home.project(project, root), name, app.report))
        for project, root, name in machine_names.everywhere(app.home, app.report)
    }
    discovery = Discovery(app.home, app.report)
    discovery.ask({(record.provider, record.where) for _, record in recorded.values() if record})
    rows = [
        _row(*key, root, _state(discovery, key, record), discovery.member(key))
        for key, (root, record) in recorded.items()
    ]
    rows += [
        _row(*key, Path(seen.observed.tag.root or "?"), seen.observed.state.value, seen.observed.member, lost=True)
        for key, seen in discovery.machines.items()
        if key not in recorded
    ]
    text = table(
        ("ID", "MACHINE", "STATE", "PROJECT"),
        ((row["id"], row["name"], _where(row), row["project"]) for row in rows),
    )
    app.result({"machines": rows}, text if rows else "no machines")


def _record(layout: ProjectLayout, name: str, report: Report) -> Record | None:
    from vmctl.store import records

    try:
        return records.load(layout.machine(name))
    except (VmctlError, OSError) as error:
        report(Warned(machine=name, text=str(error)))
        return None


def _row(project: str, name: str, root: Path, state: str, member: str, *, lost: bool = False) -> dict[str, Any]:
    from vmctl.machine_names import short_id

    row = {"id": short_id(project, name), "name": name, "state": state, "member": member or None}
    return {**row, "project": str(root), "lost": lost}


def _where(row: dict[str, Any]) -> str:
    return f"{row['state']} on {row['member']}" if row["member"] else str(row["state"])


def _state(discovery: Discovery, key: tuple[str, str], record: Record | None) -> str:
    """One recorded machine's state: absent only where its hypervisor says so."""
    from vmctl.discovery import UNKNOWN
    from vmctl.workspace import ABSENT

    if seen := discovery.machines.get(key):
        return seen.observed.state.value
    return ABSENT if record and (record.provider, record.where) in discovery.asked else UNKNOWN
