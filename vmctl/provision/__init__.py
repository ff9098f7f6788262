"""Provisioning: what a machine still needs, and one run over all machines that need it.

``pending`` is on the path of every `vmctl up`, also of one with nothing to do: it reads small files and hashes.
What it takes to run provisioners is imported when there is something to run.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmctl.events import Report, ignore
from vmctl.layout import ProjectLayout
from vmctl.provision.host_set import HostSet
from vmctl.provision.passwords import Passwords
from vmctl.provision.provision_state import check_names, entries, forget, mark, pending, put_back
from vmctl.provision.summary import Counts, HostResult, Status, Summary
from vmctl.provision.target import AS_WRITTEN, Mode, Target

__all__ = [
    "Counts",
    "HostResult",
    "HostSet",
    "Mode",
    "Passwords",
    "Status",
    "Summary",
    "Target",
    "check_names",
    "entries",
    "forget",
    "mark",
    "pending",
    "put_back",
    "run",
]


def run(
    host_set: HostSet,
    targets: Sequence[Target],
    *,
    layout: ProjectLayout,
    only: Sequence[str] = (),
    start: str = "",
    force: bool = False,
    mode: Mode = AS_WRITTEN,
    passwords: Passwords | None = None,
    report: Report = ignore,
    color: bool | None = None,
) -> Summary:
    """Run what each target needs, in the order of the Vmfile: Ansible once over all of them, scripts side by side.

    A machine that fails gets no further provisioners, the others go on. A provisioner is recorded as done for a
    machine right after it succeeded there, and only then.

    Args:
        host_set: where the targets belong to, the project's machines or a target of its remotes.
        targets: hosts that are up, whose locks the caller holds.
        layout: where the inventory and ansible-runner's files go.
        only: names of provisioners to run, done already or not, and no others.
        start: name of the first provisioner to run; what a host has before it is left out.
        force: run what is done already, too.
        mode: whether to change anything at all.
        passwords: what the user has typed already; what is missing is asked for before anything runs.
        report: hears what goes on.
        color: whether Ansible's lines carry colours; None = when standard error is a terminal.

    Raises:
        UsageError: an input is missing or makes no sense; nothing was run.
        ProvisionFailed: tasks or scripts failed; ``summary`` (``vmctl.provision.failure``) has all machines.
        Unreachable: a machine could not be reached, and nothing worse happened.
        Interrupted: the user asked to stop; no process is left behind on the host.
    """
    from vmctl.provision.runner import Runner

    typed = passwords or Passwords()
    runner = Runner(host_set, tuple(targets), layout, report, color=color, mode=mode, passwords=typed)
    return runner.run(only=tuple(only), start=start, force=force)
