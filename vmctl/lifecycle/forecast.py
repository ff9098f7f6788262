"""What `up` would make of each machine: the plan, what it begins with (a layer, memory), and what is left to run."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vmctl import boxes
from vmctl.lifecycle import instants, layering, steps
from vmctl.lifecycle.layering import Layering
from vmctl.lifecycle.machine_job import Job
from vmctl.lifecycle.plan import Action, Plan, plan
from vmctl.provision import provision_state
from vmctl.store import layer_ledger
from vmctl.workspace import Machine, Workspace


class KeptMemory(Struct, frozen=True, kw_only=True):
    """The memory that an instant machine would go on from."""

    key: str = ""
    """"" = there is none."""
    seconds: float | None = None
    """What it saves."""


class Forecast(Struct, frozen=True, kw_only=True):
    """What `up` would do with one machine."""

    plan: Plan
    provisioners: tuple[str, ...] = ()
    """Names of those that would run."""
    layering: Layering | None = None
    """Its layers, where it is to be made and can have some."""
    memory: KeptMemory | None = None
    """None: it is not to be made, or is not instant and has none."""


def forecast(workspace: Workspace, names: Sequence[str], *, option: str | None) -> list[Forecast]:
    """What `up` would do with machines; changes nothing.

    Args:
        workspace: the project.
        names: which machines.
        option: the value of --provider.
    """
    return [_of(workspace, machine) for machine in workspace.survey(names, option=option, choose=True)]


def _of(workspace: Workspace, machine: Machine) -> Forecast:
    item = plan(machine)
    if machine.spec is None:
        return Forecast(plan=item)
    needed = provision_state.pending(machine.spec, machine.layout if machine.observed else None)
    if item.action is not Action.CREATE:
        return Forecast(plan=item, provisioners=tuple(one.name for one in needed))
    box = boxes.find(machine.spec.box, workspace.home)
    found = layering.possible(workspace, machine, steps.box_used(box)) if box else None
    return Forecast(
        plan=item,
        provisioners=tuple(one.name for one in needed if found is None or one not in found.done),
        layering=found,
        memory=_memory(Job(workspace, machine, box=box, instant=machine.spec.instant)),
    )


def _memory(job: Job) -> KeptMemory | None:
    """What is kept of this very machine; nothing is of one whose project was never up."""
    if job.box is None or job.workspace.id is None:
        return KeptMemory() if job.instant else None
    instants.find(job)
    note = layer_ledger.read(job.workspace.home).get(job.memory)
    return KeptMemory(key=job.memory, seconds=note.seconds if note else None) if job.memory or job.instant else None
