"""`vmctl destroy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.shared_options import PARALLEL, limits
from vmctl.errors import UsageError, VmctlError, shell_command

if TYPE_CHECKING:
    from vmctl.discovery import DiscoveredMachine
    from vmctl.workspace import Workspace


@command()
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.machines)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@PARALLEL
def destroy(app: App, names: tuple[str, ...], *, yes: bool, parallel: int | None) -> None:
    """Remove machines, their disks, and everything vmctl made for them. Boxes and your own files stay.

    The id of a machine that `vmctl list` shows as lost is taken as well.
    """
    try:
        workspace = app.select(names, orphans=True, salvage=True)
    except VmctlError:
        if (seen := _lost(app, names)) is None:
            raise
        _destroy_lost(app, seen, yes=yes)
        return
    _destroy(app, workspace, yes=yes, parallel=parallel)


def _destroy(app: App, workspace: Workspace, *, yes: bool, parallel: int | None) -> None:
    from vmctl.lifecycle import etc_hosts, fleet, triggers, verbs
    from vmctl.lifecycle.machine_job import Job
    from vmctl.store import files

    if workspace.id is None:
        app.done({"changed": False, "destroyed": []}, "nothing to destroy")
        return
    with workspace.locked(app.names):
        jobs = [Job(workspace, machine) for machine in workspace.survey(app.names, seek=True)]
        doomed = [job for job in jobs if job.machine.observed or files.exists(job.machine.layout.root)]
        if doomed and not yes:
            _confirm(app, [job.name for job in doomed])
        steps = triggers.around(workspace.project, "destroy", verbs.DESTROY)
        outcome = fleet.run(doomed, steps, reverse=True, limits=limits(workspace, parallel))
        if doomed:
            etc_hosts.refresh(workspace, etc_hosts.present_blocks(workspace), locked=app.names)
        outcome.raise_failure()
    gone = [job.name for job in doomed]
    app.done(
        {"changed": bool(gone), "destroyed": gone}, f"destroyed: {', '.join(gone)}" if gone else "nothing to destroy"
    )


def _confirm(app: App, names: Sequence[str]) -> None:
    app.confirm(f"destroy {', '.join(names)} and all data in {'them' if len(names) > 1 else 'it'}?", flag="--yes")


def _lost(app: App, names: Sequence[str]) -> DiscoveredMachine | None:
    """The machine that an id means, where its project had a record of it once, and has none any more."""
    from vmctl import machine_names
    from vmctl.discovery import Discovery

    if (
        len(names) != 1
        or not machine_names.ID_PATTERN.fullmatch(names[0])
        or machine_names.find_by_id(app.home, names[0])
    ):
        return None
    discovery = Discovery(app.home, app.report)
    discovery.ask(set())
    found = list(discovery.with_id(names[0]))
    if len(found) > 1:
        raise UsageError(f"the id '{names[0]}' means several machines", hint="vmctl list")
    for seen in found:
        _require_lost(app, seen)
    return found[0] if found else None


def _require_lost(app: App, seen: DiscoveredMachine) -> None:
    """Refuse a machine whose project is alive, here or with somebody else."""
    from vmctl.store import places

    tag = seen.observed.tag
    place = places.load(app.home, tag.project)
    if place is None:
        raise UsageError(
            f"{seen.domain} belongs to a project that vmctl does not know here, so vmctl does not touch it",
            details=f"made in {tag.root or '?'}, by another user or from another host",
        )
    if place.is_there:
        raise UsageError(
            f"{seen.domain} belongs to {place.root}",
            hint=shell_command("vmctl", "-C", place.root, "status", tag.machine),
        )


def _forget_lost(app: App, project: str, machine: str) -> None:
    """Remove what vmctl still keeps of a machine that is gone."""
    from vmctl.store import files, places
    from vmctl.store.port_leases import Owner, Ports

    if place := places.load(app.home, project):
        Ports(app.home, app.report).release(Owner(project=project, root=place.root, machine=machine))
        files.remove_tree(place.layout(app.home).machine(machine).root)


def _destroy_lost(app: App, seen: DiscoveredMachine, *, yes: bool) -> None:
    from vmctl import interrupt

    tag = seen.observed.tag
    name = f"{tag.machine} ({seen.domain}, made in {tag.root or '?'})"
    if not yes:
        _confirm(app, [name])
    with interrupt.shielded():
        seen.driver.stop(seen.domain, tag, force=True)
        seen.driver.destroy(seen.domain, tag)
        _forget_lost(app, tag.project, tag.machine)
    app.done({"changed": True, "destroyed": [tag.machine]}, f"destroyed: {name}")
