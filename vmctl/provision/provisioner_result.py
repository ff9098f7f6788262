"""From what Ansible said of its hosts to what it means for the machines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vmctl.provision.ansible_events import PlayRecap
from vmctl.provision.failure import label
from vmctl.provision.host_set import HostSet
from vmctl.provision.summary import Counts, Failure
from vmctl.spec import Ansible


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvisionerResult:
    """How one provisioner ended on one machine."""

    machine: str
    counts: Counts = field(default_factory=Counts)
    failure: Failure | None = None
    changes: tuple[str, ...] = ()
    """Tasks that changed something, with their places."""
    not_checked: bool = False
    """It did not run, because nothing was to be changed."""


def failed(
    machine: str, brief: str, details: str = "", *, unreachable: bool = False, hint: str = ""
) -> ProvisionerResult:
    """A provisioner that failed on a machine, or could not reach it."""
    failure = Failure(machines=(machine,), brief=brief, details=details, unreachable=unreachable, hint=hint)
    return ProvisionerResult(
        machine=machine, counts=Counts(failed=not unreachable, unreachable=unreachable), failure=failure
    )


def judge(item: Ansible, machines: Sequence[str], recap: PlayRecap, host_set: HostSet) -> list[ProvisionerResult]:
    """What a run that was not interrupted means for each machine.

    A machine is done when Ansible got to the end of the playbook and nothing failed on it. Where Ansible gave up
    early, or something failed on a host that is not a machine (localhost), no machine is done.
    """
    if recap.counts is None:
        failure = _never_ran(item, machines, recap)
        return [ProvisionerResult(machine=name, failure=failure) for name in machines]
    counts = recap.counts
    failures = {name: _host_failure(item, name, recap, host_set) for name in machines if name in recap.bad}
    rest = [name for name in machines if name not in recap.bad]
    if elsewhere := sorted(recap.bad - set(machines)):
        common = _failed_elsewhere(item, rest, elsewhere, recap)
        failures |= dict.fromkeys(rest, common)
    elif recap.cut_short and rest:
        failures |= dict.fromkeys(rest, _cut_short(item, rest, sorted(recap.bad), recap))
    elif left_out := _left_out(recap):
        failures |= dict.fromkeys(rest, _added_in_vain(item, rest, left_out, recap))
    elif recap.ended < len(item.playbooks) or _came_to_nothing(recap):  # a later one does not parse
        failures |= dict.fromkeys(rest, _never_ran(item, rest, recap))
    return [
        ProvisionerResult(
            machine=name,
            counts=counts.get(name, Counts()),
            failure=failures.get(name),
            changes=tuple(recap.changes.get(name, ())),
        )
        for name in machines
    ]


def nothing_matches(
    item: Ansible, machines: Sequence[str], known_groups: Sequence[str], host_set: HostSet
) -> list[ProvisionerResult]:
    """The verdict on a playbook without a single host to work on."""
    failure = Failure(
        machines=tuple(machines),
        brief=f"provisioner {label(item)}: no play of {item.title} matches any machine",
        details=f"Its `hosts:` name none of these groups: {', '.join(['all', *known_groups])}; nor a machine.",
        hint=host_set.graph,
    )
    return [ProvisionerResult(machine=name, failure=failure) for name in machines]


def _never_ran(item: Ansible, machines: Sequence[str], recap: PlayRecap) -> Failure:
    return Failure(
        machines=tuple(machines),
        brief=f"provisioner {label(item)}: ansible-playbook could not run {_unfinished(item, recap)}",
        details="\n".join(recap.errors) or "It printed nothing.",
    )


def _came_to_nothing(recap: PlayRecap) -> bool:
    """Whether Ansible says that it failed, and of no host: no task of that name to start at, for one."""
    refused = recap.counts == {} and any("ERROR" in line for line in recap.errors)
    return not recap.bad and (bool(recap.status) or refused)


def _left_out(recap: PlayRecap) -> list[str]:
    """Hosts that the playbook added and that no task ran on, though plays after that had nobody to work on."""
    return sorted(set(recap.added) - set(recap.counts or {})) if recap.nowhere else []


def _added_in_vain(item: Ansible, machines: Sequence[str], added: Sequence[str], recap: PlayRecap) -> Failure:
    return Failure(
        machines=tuple(machines),
        brief=f"provisioner {label(item)}: no play ran on {', '.join(added)}, which the playbook added (add_host)",
        details=f"Without a host to work on: {', '.join(recap.nowhere)}. Where the inventory is not vmctl's own, "
        "a run is limited to the hosts that were asked for.",
        hint="list the hosts in the inventory, or run the play with ansible-playbook",
    )


def _unfinished(item: Ansible, recap: PlayRecap) -> str:
    return ", ".join(path.name for path in item.playbooks[recap.ended :] or item.playbooks[-1:])


def _host_failure(item: Ansible, name: str, recap: PlayRecap, host_set: HostSet) -> Failure:
    counts = (recap.counts or {})[name]
    unreachable = bool(counts.unreachable) and not counts.failed
    task = recap.failures.get(name)
    if unreachable:
        brief = f"{name}: Ansible could not reach it (provisioner {label(item)})"
        return Failure(
            machines=(name,), brief=brief, details=str(task or ""), unreachable=True, hint=host_set.enter(name)
        )
    what = f"task '{task.task}' failed" if task else "a task failed"
    where = f" at {task.place}" if task and task.place else ""
    brief = f"{name}: {what}{where} (provisioner {label(item)})"
    if task is None:
        return Failure(machines=(name,), brief=brief)
    first = recap.first.get(name, task)
    details = task.message if first == task else f"{task.message}\nFailed first: {first}"
    return Failure(machines=(name,), brief=brief, details=details, task=task.task, place=task.place)


def _failed_elsewhere(item: Ansible, machines: Sequence[str], hosts: Sequence[str], recap: PlayRecap) -> Failure:
    details = [f"{host}: {recap.failures[host]}" for host in hosts if host in recap.failures]
    brief = f"provisioner {label(item)} failed on {', '.join(hosts)}"
    return Failure(machines=tuple(machines), brief=brief, details="\n".join(details))


def _cut_short(item: Ansible, machines: Sequence[str], hosts: Sequence[str], recap: PlayRecap) -> Failure:
    brief = f"{', '.join(machines)}: provisioner {label(item)} did not finish"
    details = f"Ansible gave up after failures on {', '.join(hosts) or 'all hosts of a play'}."
    follows = bool(hosts) and not any((recap.counts or {})[host].failed for host in hosts)
    return Failure(machines=tuple(machines), brief=brief, details=details, follows=follows)
