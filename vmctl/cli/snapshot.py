"""`vmctl snapshot`: states of machines, kept by name."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from vmctl import units
from vmctl.cli import completion
from vmctl.cli.app import App, Subcommands, command
from vmctl.cli.report import machine_object, table
from vmctl.errors import UsageError

if TYPE_CHECKING:
    from vmctl.lifecycle.snapshot_commands import SnapshotResult
    from vmctl.powers import Snapshot
    from vmctl.workspace import Workspace

NAME = click.argument("snapshot_name", metavar="NAME", shell_complete=completion.snapshots)
MACHINES = click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.machines)
START = click.option(
    "--start/--no-start", default=True, help="Start the machine after restoring (default) / leave it off."
)


@click.group(cls=Subcommands)
def snapshot() -> None:
    """Save machines' states by name, and restore them."""


@command("save")
@NAME
@MACHINES
@click.option("--force", is_flag=True, help="Replace a snapshot of that name.")
def save(app: App, snapshot_name: str, names: tuple[str, ...], *, force: bool) -> None:
    """Save the current state; also the memory of a running machine, where the hypervisor can."""
    from vmctl.lifecycle import snapshot_commands

    workspace = _select(app, "save", snapshot_name, names, orphans=True)
    result = snapshot_commands.save(workspace, app.names, snapshot_name, every=not names, replace=force)
    _tell(app, result, "saved")


@command("restore")
@NAME
@MACHINES
@START
def restore(app: App, snapshot_name: str, names: tuple[str, ...], *, start: bool) -> None:
    """Restore a snapshot; the current state is lost."""
    from vmctl.lifecycle import snapshot_commands

    workspace = _select(app, "restore", snapshot_name, names, orphans=False)
    result = snapshot_commands.restore(workspace, app.names, snapshot_name, every=not names, start=start)
    _tell(app, result, "restored")


@command("list", query=True)
@MACHINES
def list_(app: App, names: tuple[str, ...]) -> None:
    """Show snapshots: what builds on what, when they were made, what they take up on disk."""
    from vmctl.lifecycle import snapshot_commands

    workspace = app.select(names, orphans=True, salvage=True)
    found = snapshot_commands.listing(workspace, app.names)
    data = {name: [_object(each) for each in kept] for name, kept in found.items()}
    app.result({"machines": data}, _tree_text(found))


@command("delete")
@NAME
@MACHINES
def delete(app: App, snapshot_name: str, names: tuple[str, ...]) -> None:
    """Delete a snapshot; snapshots that build on it, and the current state, stay."""
    from vmctl.lifecycle import snapshot_commands

    workspace = _select(app, "delete", snapshot_name, names, orphans=True)
    _tell(app, snapshot_commands.delete(workspace, app.names, snapshot_name, every=not names), "deleted")


@command("push")
@MACHINES
def push(app: App, names: tuple[str, ...]) -> None:
    """Save a snapshot under the next free name: push-1, then push-2."""
    from vmctl.lifecycle import snapshot_commands

    workspace = app.select(names)
    _tell(app, snapshot_commands.push(workspace, app.names, every=not names), "saved")


@command("pop")
@MACHINES
@START
@click.option("--delete/--no-delete", "drop", default=True, help="Delete it afterwards (default) / keep it.")
def pop(app: App, names: tuple[str, ...], *, start: bool, drop: bool) -> None:
    """Restore the last snapshot that was pushed, and delete it."""
    from vmctl.lifecycle import snapshot_commands

    workspace = app.select(names)
    _tell(app, snapshot_commands.pop(workspace, app.names, every=not names, start=start, delete=drop), "restored")


def _select(app: App, verb: str, snapshot: str, names: tuple[str, ...], *, orphans: bool) -> Workspace:
    """The machines; the order of Vagrant, MACHINE NAME, is answered with ours.

    Raises:
        UsageError: a name is not a machine's.
    """
    try:
        return app.select(names, orphans=orphans)
    except UsageError as error:
        if len(names) == 1 and snapshot in app.workspace.all_names():
            line = f"vmctl snapshot {verb} {shlex.quote(names[0])} {shlex.quote(snapshot)}"
            raise UsageError(f"{error.brief}: the snapshot's name comes first", hint=line) from error
        raise


def _tell(app: App, result: SnapshotResult, past: str) -> None:
    machines = [{**machine_object(machine), "snapshot": result.snapshots[machine.name]} for machine in result.machines]
    text = "\n".join(
        f"{machine.name}: {past} {result.snapshots[machine.name]!r}; {machine.state_text}"
        for machine in result.machines
    )
    app.done({"changed": True, "verb": past, "machines": machines}, text)


def _object(one: Snapshot) -> dict[str, Any]:
    return {
        "name": one.name,
        "parent": one.parent or None,
        "date": datetime.fromtimestamp(one.date, UTC).isoformat(timespec="seconds"),
        "size": one.size,
        "memory": one.memory,
        "current": one.current,
    }


def _tree_text(found: Mapping[str, Sequence[Snapshot]]) -> str:
    rows = [row for name, kept in found.items() for row in _rows(name, kept)]
    return table(("MACHINE", "SNAPSHOT", "MADE", "SIZE", "HOLDS"), rows) if rows else "no snapshots"


def _rows(machine: str, kept: Sequence[Snapshot]) -> Iterator[tuple[str, ...]]:
    for one, depth in _indented(kept):
        name = f"{'  ' * depth}{one.name}{' *' if one.current else ''}"
        made = datetime.fromtimestamp(one.date).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        yield machine, name, made, _size(one.size), "disk and memory" if one.memory else "disk"


def _indented(kept: Sequence[Snapshot], parent: str = "", depth: int = 0) -> Iterator[tuple[Snapshot, int]]:
    """Depth first, so that what builds on a snapshot stands below it."""
    for one in kept:
        if one.parent == parent:
            yield one, depth
            yield from _indented(kept, one.name, depth + 1)


def _size(size: int | None) -> str:
    return "?" if size is None else units.readable(size)


for each in (save, restore, list_, delete, push, pop):
    snapshot.add_command(each)
