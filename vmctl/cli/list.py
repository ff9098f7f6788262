"""`vmctl list`: the machines of all projects. A hypervisor that can not be asked leaves its machines unknown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmctl.cli.app import App, command
from vmctl.cli.report import table
from vmctl.errors import VmctlError
from vmctl.events import Report, Warned

if TYPE_CHECKING:
    from vmctl.driver import Observed
    from vmctl.layout import HomeLayout
    from vmctl.store.records import Record

UNKNOWN = "unknown"


@command("list", query=True)
def list_(app: App) -> None:
    """Show all machines of all projects of this user; the ids work with every command, in any directory."""
    from vmctl import machines as naming

    recorded = {
        (project, name): (root, _record(root, name, app.report))
        for project, root, name in naming.everywhere(app.home, app.report)
    }
    survey = _Survey(app.home, app.report)
    survey.ask({(record.provider, record.where) for _, record in recorded.values() if record})
    rows = [_row(*key, root, survey.state(key, record)) for key, (root, record) in recorded.items()]
    rows += [
        _row(*key, Path(seen.tag.root or "?"), seen.state.value, lost=True)
        for key, seen in survey.told.items()
        if key not in recorded
    ]
    text = table(
        ("ID", "MACHINE", "STATE", "PROJECT"),
        ((row["id"], row["name"], row["state"], row["project"]) for row in rows),
    )
    app.result({"machines": rows}, text if rows else "no machines")


def _record(root: Path, name: str, report: Report) -> Record | None:
    from vmctl.store import identity, records

    try:
        return records.load(identity.project_layout(root).machine(name))
    except (VmctlError, OSError) as error:
        report(Warned(machine=name, text=str(error)))
        return None


def _row(project: str, name: str, root: Path, state: str, *, lost: bool = False) -> dict[str, Any]:
    from vmctl.machines import short_id

    return {"id": short_id(project, name), "name": name, "state": state, "project": str(root), "lost": lost}


@dataclass
class _Survey:
    """What the hypervisors say, wherever machines were made, and wherever they would be made now."""

    home: HomeLayout
    report: Report
    told: dict[tuple[str, str], Observed] = field(default_factory=dict)
    """By project id and machine."""
    asked: set[tuple[str, str]] = field(default_factory=set)
    """The places, by provider and ``Driver.where``, that have answered."""

    def ask(self, places: set[tuple[str, str]]) -> None:
        """Ask at these places, and each usable provider at its first choice, for machines whose project is lost."""
        from vmctl import registry

        for provider, where in sorted(places):
            self._ask(provider, where)
        for provider in registry.names():
            if not any(place[0] == provider for place in places) and self._is_usable(provider):
                self._ask(provider, "")

    def _is_usable(self, provider: str) -> bool:
        from vmctl import registry
        from vmctl.driver import Host

        driver = registry.make_or_none(provider, Host(home=self.home.root))
        return driver is not None and not driver.usable()

    def _ask(self, provider: str, where: str) -> None:
        from vmctl import registry
        from vmctl.driver import Host

        try:
            states = registry.make(provider, Host(home=self.home.root, where=where)).states()
        except VmctlError as error:
            self.report(Warned(text=f"{error.brief}; its machines are shown as {UNKNOWN}", hint=error.hint))
            return
        self.told |= {(seen.tag.project, seen.tag.machine): seen for seen in states.values()}
        self.asked.add((provider, where))

    def state(self, key: tuple[str, str], record: Record | None) -> str:
        """One recorded machine's state: absent only where its hypervisor says so."""
        from vmctl.workspace import ABSENT

        if seen := self.told.get(key):
            return seen.state.value
        return ABSENT if record and (record.provider, record.where) in self.asked else UNKNOWN
