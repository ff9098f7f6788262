"""`vmctl up` and `vmctl plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.report import machine_object
from vmctl.cli.shared_options import ALIAS, ONLY, PARALLEL
from vmctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vmctl.lifecycle.layering import Layering
    from vmctl.lifecycle.plan import Change, Plan
    from vmctl.lifecycle.up import Forecast, UpResult

MANY = 8  # machines that a line still names
SIZES = ("memory", "disk")
"""Fields that are told in units."""


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
@click.option("--cold", is_flag=True, help="Make new machines from their boxes, not from layers, and make no layers.")
@click.option(
    "--instant/--no-instant",
    default=None,
    help="Keep the memory of new machines for `up` to go on from after `destroy` / neither keep nor use any.",
)
@click.option("--locked", is_flag=True, help="Use exactly the boxes in Vmfile.lock (`vmctl box lock`), or fail.")
@ALIAS
def up(app: App, names: tuple[str, ...], *, locked: bool, alias: bool, **options: Any) -> None:
    """Create, start, share folders with and provision machines.

    Whatever is done already is skipped; run it again after any failure.
    """
    from vmctl.lifecycle.up import Options, provide_locked_boxes
    from vmctl.lifecycle.up import up as bring_up

    _refuse_contradictions(options)
    app.locked, app.alias = locked, alias
    workspace = app.select(names, rising=True)
    if not app.names:
        app.done({"changed": False, "machines": [], "provisioned": {}, "message": ""}, "no machine starts by itself")
        return
    if locked:
        provide_locked_boxes(workspace, app.names)
    result = bring_up(workspace, app.names, Options(**options), reload=app.reload)
    text = _summary(result) + (f"\n{workspace.project.message}" if workspace.project.message else "")
    app.done({"changed": result.changed, **_machines(result), "message": workspace.project.message}, text)


def _refuse_contradictions(options: Mapping[str, Any]) -> None:
    if options["instant"] and (options["cold"] or options["only"] or options["provision"] is not None):
        raise UsageError(
            "--instant cannot be combined with --cold, --only, --provision or --no-provision",
            details="Memory is kept of machines that are all that the Vmfile wants, and nothing else.",
        )


def _machines(result: UpResult) -> dict[str, Any]:
    objects = [
        {**machine_object(machine), "action": item.action.value}
        for machine, item in zip(result.machines, result.plans, strict=True)
    ]
    return {"machines": objects, "provisioned": result.provisioned.as_object()}


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
@ALIAS
def plan(app: App, names: tuple[str, ...], *, provider: str | None, alias: bool) -> None:
    """Show what `up` would do, machine by machine; changes nothing."""
    from vmctl.lifecycle.up import forecast

    app.alias = alias
    workspace = app.select(names, rising=True)
    found = forecast(workspace, app.names, option=provider)
    app.result({"machines": [_object(one) for one in found]}, "\n".join(map(_lines, found)))


def _object(one: Forecast) -> dict[str, Any]:
    from vmctl.lifecycle.plan import hardware

    machine = one.plan.machine
    row: dict[str, Any] = {
        "name": machine.name,
        "action": one.plan.action.value,
        "member": machine.observed.member or None if machine.observed else None,
        "changes": [
            {"field": change.field, "old": change.old, "new": change.new, "needs": change.effect.value}
            for change in one.plan.changes
        ],
    }
    if machine.spec is None:
        return row
    row |= {"provider": machine.provider, "provider_reason": machine.reason}
    row |= {"machine": hardware(machine.spec), "provisioners": list(one.provisioners)}
    row |= {"layer": _layer_object(one.layering)} if one.layering else {}
    return row | ({"memory": {"key": one.memory.key or None, "seconds": one.memory.seconds}} if one.memory else {})


def _layer_object(layering: Layering) -> dict[str, Any]:
    chain = layering.chain
    return {
        "number": layering.depth,
        "of": len(chain.keys),
        "key": layering.key or None,
        "seconds": layering.seconds,
        "ended_by": chain.ended_by or None,
        "reason": chain.reason or None,
    }


def _lines(one: Forecast) -> str:
    machine = one.plan.machine
    member = f" (on {machine.observed.member})" if machine.observed and machine.observed.member else ""
    lines = [f"{machine.name}: {_action(one)}{member}", *_new(one.plan)]
    lines += [line for change in one.plan.changes for line in _changed(change)]
    if one.memory and one.memory.key:
        saved = f": {one.memory.seconds:.0f} s saved" if one.memory.seconds else ""
        lines.append(f"  from its kept memory{saved}")
    elif one.layering:
        lines += _layer_lines(one.layering)
    if one.provisioners:
        lines.append(f"  provision: {', '.join(one.provisioners)}")
    return "\n".join(lines)


def _action(one: Forecast) -> str:
    from vmctl.lifecycle.plan import Action

    return "provision" if one.plan.action is Action.NOTHING and one.provisioners else one.plan.action.value


def _changed(change: Change) -> Iterator[str]:
    """What is other than the machine was told; of lists, what goes and what comes."""
    needs = f"(needs {change.effect.value})"
    for name, old, new in change.parts():
        if not (isinstance(old, list) and isinstance(new, list)):
            yield f"  {name}: {_value(name, old)} → {_value(name, new)} {needs}"
            continue
        yield f"  {name} {needs}:"
        different = [f"    - {_value(name, each)}" for each in old if each not in new]
        different += [f"    + {_value(name, each)}" for each in new if each not in old]
        yield from different or ["    in another order"]


def _value(name: str, value: Any) -> str:
    """A value as the Vmfile writes it."""
    import json

    from vmctl.vmfile.quantities import format_size

    if value is None:
        return "not set"
    if name in SIZES and isinstance(value, int):
        return str(format_size(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _layer_lines(layering: Layering) -> list[str]:
    """How far layers bring a machine, and why no further."""
    lines, chain = [], layering.chain
    if layering.depth:
        saved = f": {layering.seconds:.0f} s saved" if layering.seconds else ""
        lines.append(f"  from layer {layering.depth} of {len(chain.keys)}{saved}")
    elif chain.keys:
        lines.append(f"  layers: none yet; {len(chain.keys)} to be made")
    if chain.reason:
        since = f" from {chain.ended_by} on" if chain.ended_by else ""
        lines.append(f"  no layers{since}: {chain.reason}")
    return lines


def _new(item: Plan) -> list[str]:
    """What a machine that is made will be."""
    from vmctl.lifecycle.plan import Action, hardware
    from vmctl.registry import FIRST_USABLE
    from vmctl.vmfile.quantities import format_size

    spec = item.machine.spec
    if spec is None or item.action is not Action.CREATE:
        return []
    applied = hardware(spec)
    disk = f", disk {format_size(spec.disk)}" if spec.disk is not None else ""
    cpus = f"{spec.cpus} cpu{'' if spec.cpus == 1 else 's'}"
    lines = [
        f"  box: {spec.box}{f' in place of {spec.box_alias}' if spec.box_alias else ''}",
        f"  provider: {item.machine.provider} ({cpus}, {format_size(spec.memory)}{disk})",
    ]
    if item.machine.reason.startswith(f"{FIRST_USABLE};"):  # others were passed over
        lines.append(f"  why: {item.machine.reason}")
    lines += [f"  port: {port}" for port in applied["ports"]]
    lines += [f"  network: {network}" for network in applied["networks"]]
    return lines + [f"  folder: {folder}" for folder in applied["synced_folders"]]
