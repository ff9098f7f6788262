"""Which machines need provisioning, which of them together, and the way into them for ``vmctl.provision``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import structs

from vmctl import folders, provision, ssh
from vmctl.driver import State
from vmctl.errors import ProvisionFailed, Unreachable, VmctlError
from vmctl.lifecycle import standstill, triggers
from vmctl.lifecycle.guest_steps import login
from vmctl.lifecycle.machine_job import Job
from vmctl.lifecycle.outcome import Outcome
from vmctl.lifecycle.selection import Selection
from vmctl.login import Login
from vmctl.provision.failure import summary_of
from vmctl.provision.summary import Failure
from vmctl.spec import MachineSpec, When
from vmctl.workspace import Machine, Workspace, require_known

if TYPE_CHECKING:
    from vmctl.lifecycle.layering import Layering

NONE: Mapping[str, Layering] = MappingProxyType({})


def run(workspace: Workspace, machines: Sequence[Machine], selection: Selection) -> Outcome:
    """Run what the machines need, in one go; what failed is in the outcome.

    Where a machine waits for another one to be provisioned, it is one go for each wave of machines. Passwords are
    asked for before the first.

    Raises:
        UsageError: no provisioner has a name that the selection names, or there is no terminal to ask for them.
    """
    provision.check_names(workspace.project.provisioners, selection.names)
    selection.ask(machine for machine in machines if machine.state is State.RUNNING)
    outcome = Outcome()
    with standstill.watched(workspace, [machine.name for machine in machines]):
        for wave in waves(machines):
            provision_wave(workspace, sift(wave, outcome), outcome, selection)
    return outcome


def provision_wave(
    workspace: Workspace,
    machines: Sequence[Machine],
    outcome: Outcome,
    selection: Selection,
    *,
    new: Mapping[str, Layering] = NONE,
) -> None:
    """Run what the machines need, all at once; the result, or the failure, is added to ``outcome``.

    Of those that are ``new`` (made by this command), layers are made on the way.

    Raises:
        UsageError: no provisioner has a name that the selection names, or an input makes no sense.
    """
    provision.check_names(workspace.project.provisioners, selection.names)
    needy = [machine for machine in machines if _needs_something(machine, selection)]
    if not selection.mode.check:  # a trigger may do anything
        needy = [machine for machine in needy if _trigger("before", workspace, machine, outcome, selection)]
    if not needy:
        return
    _provision(workspace, needy, outcome, selection, new)
    for machine in needy:
        if machine.name not in outcome.unprovisioned and not selection.mode.check:
            _trigger("after", workspace, machine, outcome, selection)


def _needs_something(machine: Machine, selection: Selection) -> bool:
    running = machine.spec is not None and machine.state is State.RUNNING
    return running and bool(selection.pending(require_known(machine), machine.layout))


def _provision(
    workspace: Workspace,
    machines: Sequence[Machine],
    outcome: Outcome,
    selection: Selection,
    new: Mapping[str, Layering],
) -> None:
    """One run over machines that need something."""
    from vmctl.provision.machine_hosts import MachineHosts

    logins = [_login(workspace, machine) for machine in machines]
    targets = [_target(workspace, machine, login) for machine, login in zip(machines, logins, strict=True)]
    if new:
        from vmctl.lifecycle import layering

        freeze = layering.freezers(workspace, machines, logins, new)
        targets = [structs.replace(target, after_success=freeze.get(target.name)) for target in targets]
    try:
        summary = provision.run(
            MachineHosts(workspace.project, logins, workspace.layout),
            targets,
            layout=workspace.layout,
            only=selection.only,
            start=selection.start,
            force=selection.force,
            mode=selection.mode,
            passwords=selection.passwords,
            report=workspace.report,
        )
    except (ProvisionFailed, Unreachable) as error:
        outcome.provisioning.append(error)
        outcome.add_provisioned(summary_of(error))
    else:
        outcome.add_provisioned(summary)
    if new:
        layering.keep_within(workspace, {machine.provider for machine in machines if machine.name in new})


def _target(workspace: Workspace, machine: Machine, login: Login) -> provision.Target:
    target = provision.Target.machine(require_known(machine), login, machine.layout)
    return structs.replace(target, after_reboot=partial(_share_folders, workspace, machine, login))


def _trigger(when: When, workspace: Workspace, machine: Machine, outcome: Outcome, selection: Selection) -> bool:
    """Run the triggers around provisioning; whether all went well. What failed is the machine's failure."""
    pending = selection.pending(require_known(machine), machine.layout) if when == "before" else ()
    try:
        triggers.fire(Job(workspace, machine), when, "provision")
    except triggers.TriggerFailed as error:
        outcome.provisioning.append(error)
        result = outcome.provisioned.setdefault(
            machine.name, provision.HostResult(not_attempted=[item.name for item in pending])
        )
        result.status = provision.Status.FAILED
        result.failure = Failure(machines=(machine.name,), brief=error.brief, details=error.details)
        return False
    return True


def _login(workspace: Workspace, machine: Machine) -> Login:
    job = Job(workspace, machine)
    address = job.driver.address(machine.domain, job.tag)
    if address is None:
        raise VmctlError(f"the address of machine {machine.name} is not known", hint=f"vmctl reload {machine.name}")
    return login(job, address)


def _share_folders(workspace: Workspace, machine: Machine, login: Login) -> None:
    """Have the folders again that the machine had before it restarted."""
    job = Job(workspace, machine)
    had = job.record.folders
    spec = structs.replace(job.spec, folders=tuple(folder for folder in job.spec.folders if folder.guest in had))
    shares = folders.shares(spec, job.features, user_uid=job.record.uid)
    with ssh.Connection.connect(login) as connection:
        folders.attach(connection, spec, shares, features=job.features, login=login, report=job.report)


def waves(machines: Sequence[Machine]) -> list[list[Machine]]:
    """The machines in as few waves as `until: provisioned` allows, in their own order within each.

    Only conditions on machines that are among them count.
    """
    number = dict.fromkeys((machine.name for machine in machines), 0)
    moved = True
    while moved:  # ends, for dependencies have no circle
        moved = False
        for machine in machines:
            least = _least(machine.spec, number)
            if least > number[machine.name]:
                number[machine.name], moved = least, True
    found: dict[int, list[Machine]] = {}
    for machine in machines:
        found.setdefault(number[machine.name], []).append(machine)
    return [found[each] for each in sorted(found)]


def _least(spec: MachineSpec | None, number: Mapping[str, int]) -> int:
    """The earliest wave for a machine, given those of the others."""
    needs = [one for one in (spec.depends_on if spec else ()) if one.machine in number]
    return max((number[one.machine] + (one.until == "provisioned") for one in needs), default=0)


def sift(wave: Sequence[Machine], outcome: Outcome) -> list[Machine]:
    """The machines of a wave that can begin; the others are noted as not attempted, with those that depend on them."""
    able = list(wave)
    while True:
        why = {machine.name: lost_need(machine.spec, outcome.lost, outcome.unprovisioned) for machine in able}
        lost = {name: reason for name, reason in why.items() if reason}
        if not lost:
            return able
        outcome.skipped |= lost
        able = [machine for machine in able if machine.name not in lost]


def lost_need(spec: MachineSpec | None, lost: Collection[str], unprovisioned: Collection[str]) -> str:
    """Why a machine cannot begin, given those that did not come up or whose provisioning failed; "" = it can."""
    for one in spec.depends_on if spec else ():
        if one.machine in lost:
            return f"it depends on {one.machine}"
        if one.until == "provisioned" and one.machine in unprovisioned:
            return f"it waits for {one.machine} to be provisioned"
    return ""
