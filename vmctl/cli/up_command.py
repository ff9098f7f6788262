"""`vmctl up` and `vmctl plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.report import machine_object
from vmctl.cli.shared_options import ONLY, PARALLEL

if TYPE_CHECKING:
    from vmctl.lifecycle.plan import Plan
    from vmctl.lifecycle.up import UpResult

MANY = 8  # machines that a line still names


@command()
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.machines)
@click.option(
    "--provider", metavar="NAME", shell_complete=completion.providers, help="Create machines under this provider."
)
@click.option("--provision/--no-provision", default=None, help="Run all provisioners again / none at all.")
@ONLY
@click.option("--destroy-on-error", is_flag=True, help="Remove a new machine that fails to come up.")
@PARALLEL
@click.option("--fail-fast", is_flag=True, help="Start nothing new after a machine has failed.")
@click.option("--locked", is_flag=True, help="Use exactly the boxes in Vmfile.lock (`vmctl box lock`), or fail.")
def up(app: App, names: tuple[str, ...], *, locked: bool, **options: Any) -> None:
    """Create, start, share folders with and provision machines.

    Whatever is done already is skipped; run it again after any failure.
    """
    from vmctl.lifecycle.up import Options
    from vmctl.lifecycle.up import up as bring_up

    app.locked = locked
    workspace = app.select(names, rising=True)
    if not app.names:
        app.done({"changed": False, "machines": [], "provisioned": {}, "message": ""}, "no machine starts by itself")
        return
    if locked:
        _provide_locked(app)
    result = bring_up(workspace, app.names, Options(**options), reload=app.reload)
    text = _summary(result) + (f"\n{workspace.project.message}" if workspace.project.message else "")
    app.done({"changed": result.changed, **_machines(result), "message": workspace.project.message}, text)


def _provide_locked(app: App) -> None:
    """Have the locked boxes of the chosen machines (and those they depend on); none is made from another one.

    Raises:
        WrongState: a machine was made from another box than the locked one.
    """
    from vmctl.boxes import locking
    from vmctl.errors import WrongState
    from vmctl.lifecycle.up import with_dependencies

    project = app.workspace.project
    chosen = with_dependencies(project, app.names)
    for machine in app.workspace.survey(chosen):
        used = machine.record.box if machine.record and machine.observed else None
        if machine.spec and used and used.digest and not locking.has_images(used, machine.spec.box):
            locked, made = ([one.digest, *(one.further or ())] for one in (machine.spec.box, used))
            raise WrongState(
                f"machine {machine.name} was made from another image of {machine.spec.box} than the locked one",
                details=f"locked {' '.join(locked)}\n  made {' '.join(made)}",
                hint=f"vmctl up {machine.name}    # goes on with the machine as it is; --locked needs one made anew",
            )
    refs = [spec.box for spec in project.machines if spec.name in chosen]
    locking.provide(refs, project, app.home, report=app.report)


def _machines(result: UpResult) -> dict[str, Any]:
    objects = [
        {**machine_object(machine), "action": item.action.value}
        for machine, item in zip(result.machines, result.plans, strict=True)
    ]
    return {"machines": objects, "provisioned": result.provisioned}


def _summary(result: UpResult) -> str:
    names = ", ".join(machine.name for machine in result.machines)
    if len(result.machines) > MANY:
        names = f"{len(result.machines)} machines"
    verb = "are" if len(result.machines) > 1 else "is"
    if not result.changed:
        return f"{names} {verb} up; nothing to do"
    only = result.machines[0].name if len(result.machines) == 1 else "MACHINE"
    return f"{names} {verb} up: vmctl ssh {only}"


@command(query=True)
@click.argument("names", nargs=-1, metavar="[MACHINE]...", shell_complete=completion.machines)
@click.option("--provider", metavar="NAME", shell_complete=completion.providers, help="As for `up`.")
def plan(app: App, names: tuple[str, ...], provider: str | None) -> None:
    """Show what `up` would do, machine by machine; changes nothing."""
    from vmctl.lifecycle.plan import plan as make_plan

    workspace = app.select(names, rising=True)
    plans = [make_plan(machine) for machine in workspace.survey(app.names, option=provider, choose=True)]
    told = [(item, _will(item)) for item in plans]
    rows = [
        {
            "name": item.machine.name,
            "action": item.action.value,
            "changes": [
                {"field": change.field, "old": change.old, "new": change.new, "needs": change.effect.value}
                for change in item.changes
            ],
            **will,
        }
        for item, will in told
    ]
    app.result({"machines": rows}, "\n".join(_lines(item, will) for item, will in told))


def _will(item: Plan) -> dict[str, Any]:
    """What the machine will be and what will run in it, as JSON values."""
    from vmctl.lifecycle.plan import hardware
    from vmctl.provision import provision_state

    machine = item.machine
    if machine.spec is None:
        return {}
    applied = machine.layout if machine.observed else None
    return {
        "provider": machine.provider,
        "machine": hardware(machine.spec),
        "provisioners": [one.name for one in provision_state.pending(machine.spec, applied)],
    }


def _lines(item: Plan, will: dict[str, Any]) -> str:
    lines = [f"{item.machine.name}: {item.action.value}", *_new(item, will)]
    lines += [f"  {change.field}: {change.old} → {change.new} (needs {change.effect.value})" for change in item.changes]
    if will.get("provisioners"):
        lines.append(f"  provision: {', '.join(will['provisioners'])}")
    return "\n".join(lines)


def _new(item: Plan, will: dict[str, Any]) -> list[str]:
    """What a machine that is made will be."""
    from vmctl.lifecycle.plan import Action
    from vmctl.vmfile.quantities import format_size

    spec = item.machine.spec
    if spec is None or item.action is not Action.CREATE:
        return []
    hardware = will["machine"]
    disk = f", disk {format_size(spec.disk)}" if spec.disk is not None else ""
    cpus = f"{spec.cpus} cpu{'' if spec.cpus == 1 else 's'}"
    lines = [
        f"  box: {spec.box}{f' in place of {spec.box_alias}' if spec.box_alias else ''}",
        f"  provider: {item.machine.provider} ({cpus}, {format_size(spec.memory)}{disk})",
    ]
    lines += [f"  port: {port}" for port in hardware["ports"]]
    lines += [f"  network: {network}" for network in hardware["networks"]]
    return lines + [f"  folder: {folder}" for folder in hardware["synced_folders"]]
