"""Which machines need provisioning, and how to get into them: the bridge from lifecycle to ``vmctl.provision``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmctl import provision
from vmctl.driver import State
from vmctl.errors import VmctlError
from vmctl.lifecycle.job import Job
from vmctl.lifecycle.steps import login
from vmctl.workspace import Machine, Workspace


def run(
    workspace: Workspace, machines: Sequence[Machine], *, only: Sequence[str] = (), force: bool = False
) -> dict[str, Any]:
    """Run what the machines need, in one go; return the summary for programs, {} when nothing was needed.

    Raises:
        UsageError: no provisioner has a name of ``only``.
        ProvisionFailed, Unreachable: as ``vmctl.provision.run``.
    """
    provision.check_names(workspace.project, only)
    targets = [
        _target(workspace, machine)
        for machine in machines
        if machine.spec
        and machine.state is State.RUNNING
        and provision.pending(machine.spec, machine.layout, force=force, only=only)
    ]
    if not targets:
        return {}
    summary = provision.run(
        workspace.project, targets, layout=workspace.layout, only=only, force=force, report=workspace.report
    )
    return summary.as_object()


def _target(workspace: Workspace, machine: Machine) -> provision.Target:
    job = Job(workspace, machine)
    address = job.driver.address(machine.domain)
    if address is None:
        raise VmctlError(f"the address of machine {machine.name} is not known", hint=f"vmctl reload {machine.name}")
    return provision.Target(spec=job.spec, login=login(job, address), layout=machine.layout)
