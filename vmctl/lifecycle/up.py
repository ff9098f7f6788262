"""`up` from end to end: plan, check, run the steps of every machine, then one provisioning run over all of them.

And `plan`: what `up` would make of each machine, what it begins with (a layer, memory), and what is left to run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

from vmctl import boxes, provision
from vmctl.errors import UsageError, VmctlError, WrongState
from vmctl.events import Notice, Warned
from vmctl.lifecycle import fleet, instants, layering, standstill, steps
from vmctl.lifecycle.layering import Layering
from vmctl.lifecycle.machine_job import Job
from vmctl.lifecycle.plan import Action, Plan, plan
from vmctl.lifecycle.rollout import Options, Rollout
from vmctl.provision import provision_state
from vmctl.provision.summary import Summary
from vmctl.spec import Effect, Project
from vmctl.store import layer_ledger
from vmctl.workspace import Machine, Workspace

if TYPE_CHECKING:
    from vmctl.lifecycle.machine_job import Step

__all__ = ["Options", "UpResult", "up", "with_dependencies"]


@dataclass
class UpResult:
    """What `up` did."""

    machines: list[Machine] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    provisioned: Summary = field(default_factory=lambda: Summary({}))

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return bool(self.provisioned.machines) or any(item.action is not Action.NOTHING for item in self.plans)


def with_dependencies(project: Project, names: Sequence[str]) -> tuple[str, ...]:
    """The names and all that they depend on, in the order of the Vmfile."""
    specs = {spec.name: spec for spec in project.machines}
    wanted: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue += [one.machine for one in specs[name].depends_on]
    return tuple(name for name in specs if name in wanted)


def provide_locked_boxes(workspace: Workspace, names: Sequence[str]) -> None:
    """Have the locked boxes of machines (and those they depend on) in the store; none is made from another one.

    Raises:
        WrongState: a machine was made from another box than the locked one.
    """
    from vmctl.boxes import locking

    project = workspace.project
    chosen = with_dependencies(project, names)
    for machine in workspace.survey(chosen):
        used = machine.record.box if machine.record and machine.observed else None
        if machine.spec and used and used.digest and not locking.has_images(used, machine.spec.box):
            locked, made = ([one.digest, *(one.further or ())] for one in (machine.spec.box, used))
            raise WrongState(
                f"machine {machine.name} was made from another image of {machine.spec.box} than the locked one",
                details=f"locked {' '.join(locked)}\n  made {' '.join(made)}",
                hint=f"vmctl up {machine.name}    # goes on with the machine as it is; --locked needs one made anew",
            )
    refs = [spec.box for spec in project.machines if spec.name in chosen]
    locking.provide(refs, project, workspace.home, report=workspace.report)


def up(
    workspace: Workspace,
    names: Sequence[str],
    options: Options,
    *,
    steps: Sequence[Step] | None = None,
    reload: Callable[[], Project] | None = None,
) -> UpResult:
    """Bring machines (and those they depend on) up, shared and provisioned.

    Args:
        workspace: the project.
        names: which machines.
        options: the command line's wishes.
        steps: the verb's steps, where it is not `up` itself (`reload`).
        reload: loads the Vmfile again; called when a box came in, for its defaults lie below the Vmfile's.

    Raises:
        UsageError: a provisioner asks for a password, and there is no terminal; nothing was changed.
        VmctlError: what failed; machines are kept for inspection unless ``destroy_on_error``.
    """
    provision.check_names(workspace.project.provisioners, options.only)
    names = with_dependencies(workspace.project, names)
    if workspace.id is None:  # what cannot come up leaves no trace of a project either
        _check([Job(workspace, machine) for machine in _chosen(workspace, names, options)], restarting=False)
    with workspace.locked(names):
        machines = _chosen(workspace, names, options)
        plans = [plan(machine) for machine in machines]
        if not steps:
            _tell_problems(workspace, machines)
        rollout = Rollout(workspace, options, steps)
        if steps or any(item.action is not Action.NOTHING for item in plans):
            machines = _checked(workspace, machines, options, restarting=steps is not None, reload=reload)
        else:
            _tell_changes(workspace, plans)
        with standstill.watched(workspace, names):
            rollout.run(machines)
        rollout.outcome.raise_failure()
        if rollout.worked:
            machines = workspace.survey(names, option=options.provider)
        return UpResult(machines, plans, rollout.outcome.summary)


def _chosen(workspace: Workspace, names: Sequence[str], options: Options) -> list[Machine]:
    """The machines, each with its provider, once the passwords for them are typed."""
    machines = workspace.survey(names, option=options.provider, choose=True)
    if options.provision is not False:
        options.selection.ask(machines)
    return machines


def _checked(
    workspace: Workspace,
    machines: Sequence[Machine],
    options: Options,
    *,
    restarting: bool,
    reload: Callable[[], Project] | None,
) -> list[Machine]:
    """The machines, once all were checked and their boxes are in the store."""
    jobs = [Job(workspace, machine) for machine in machines]
    _check(jobs, restarting=restarting)
    _tell_aliases(jobs)
    if reload and _prefetch(jobs):
        workspace.project = reload()
        names = [job.name for job in jobs]
        jobs = [Job(workspace, machine) for machine in workspace.survey(names, option=options.provider, choose=True)]
        _check(jobs, restarting=restarting)  # the boxes' defaults may ask for what cannot be had
    return [job.machine for job in jobs]


def _check(jobs: Sequence[Job], *, restarting: bool) -> None:
    """Check every machine before any is changed; all problems are told at once, and leave no port leased."""
    from vmctl.lifecycle import steps

    workspace = jobs[0].workspace
    problems: list[VmctlError] = []
    with workspace.ports.put_back_on_failure([workspace.owner(job.name) for job in jobs]):
        for job in jobs:
            try:
                steps.check(job, restarting=restarting)
            except VmctlError as error:
                problems.append(fleet.named(error, job.name))
        if problems:
            raise _refusal(problems)


def _refusal(problems: Sequence[VmctlError]) -> VmctlError:
    if len(problems) == 1:
        return problems[0]
    kind = UsageError if all(isinstance(problem, UsageError) for problem in problems) else VmctlError
    return kind(
        f"{len(problems)} machines cannot come up as the Vmfile wants; nothing was changed",
        details="\n".join(str(problem) for problem in problems),
    )


def _tell_aliases(jobs: Sequence[Job]) -> None:
    """Say which machines are made from another box than the Vmfile names."""
    for job in jobs:
        if job.machine.observed is None and job.spec.box_alias:
            text = f"made from {job.spec.box} in place of {job.spec.box_alias} ({job.spec.box_alias_by})"
            job.report(Notice(machine=job.name, text=text))


def _prefetch(jobs: Sequence[Job]) -> bool:
    """Have all boxes in the store; whether one came in that has defaults of its own."""
    from vmctl import boxes

    came_in = False
    wanted = ((job.spec.box, job.features.formats) for job in jobs if job.machine.observed is None)
    for ref, formats in dict.fromkeys(wanted):
        if boxes.find(ref, jobs[0].workspace.home) is None:
            box = boxes.ensure(ref, jobs[0].workspace.home, formats=formats, report=jobs[0].report)
            came_in = came_in or bool(box.defaults)
    return came_in


def _tell_problems(workspace: Workspace, machines: Sequence[Machine]) -> None:
    for machine in machines:
        if machine.problem and not standstill.stands_still(machine):  # that one is about to go on
            workspace.report(Warned(machine=machine.name, text=machine.problem, hint=machine.remedy))


def _tell_changes(workspace: Workspace, plans: Sequence[Plan]) -> None:
    for item in plans:
        name = item.machine.name
        if fields := item.with_effect(Effect.RECREATE):
            text = f"{', '.join(fields)} changed in the Vmfile: only a machine that is made anew gets that"
            workspace.report(Notice(machine=name, text=text))
        if fields := item.with_effect(Effect.RELOAD):
            text = f"{', '.join(fields)} changed in the Vmfile: `vmctl reload {name}` applies it"
            workspace.report(Notice(machine=name, text=text))


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
    return [_forecast_of(workspace, machine) for machine in workspace.survey(names, option=option, choose=True)]


def _forecast_of(workspace: Workspace, machine: Machine) -> Forecast:
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
        memory=_kept_memory(Job(workspace, machine, box=box, instant=machine.spec.instant)),
    )


def _kept_memory(job: Job) -> KeptMemory | None:
    """What is kept of this very machine; nothing is of one whose project was never up."""
    if job.box is None or job.workspace.id is None:
        return KeptMemory() if job.instant else None
    instants.find(job)
    note = layer_ledger.read(job.workspace.home).get(job.memory)
    return KeptMemory(key=job.memory, seconds=note.seconds if note else None) if job.memory or job.instant else None
