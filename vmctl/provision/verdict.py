"""From what Ansible said of its hosts to what it means for the machines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vmctl.provision.failure import Failure, label
from vmctl.provision.realm import Realm
from vmctl.provision.tally import Tally
from vmctl.provision.target import Counts
from vmctl.spec import Ansible


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one provisioner ended on one machine."""

    machine: str
    counts: Counts = field(default_factory=Counts)
    failure: Failure | None = None
    changes: tuple[str, ...] = ()
    """Tasks that changed something, with their places."""
    not_checked: bool = False
    """It did not run, because nothing was to be changed."""


def judge(item: Ansible, machines: Sequence[str], tally: Tally, realm: Realm) -> list[Outcome]:
    """What a run that was not interrupted means for each machine.

    A machine is done when Ansible got to the end of the playbook and nothing failed on it. Where Ansible gave up
    early, or something failed on a host that is no machine (localhost), no machine is done.
    """
    if tally.counts is None:
        failure = _never_ran(item, machines, tally)
        return [Outcome(machine=name, failure=failure) for name in machines]
    counts = tally.counts
    failures = {name: _host_failure(item, name, tally, realm) for name in machines if name in tally.bad}
    rest = [name for name in machines if name not in tally.bad]
    if elsewhere := sorted(tally.bad - set(machines)):
        common = _failed_elsewhere(item, rest, elsewhere, tally)
        failures |= dict.fromkeys(rest, common)
    elif tally.cut_short and rest:
        failures |= dict.fromkeys(rest, _cut_short(item, rest, sorted(tally.bad), tally))
    elif left_out := _left_out(tally):
        failures |= dict.fromkeys(rest, _added_in_vain(item, rest, left_out, tally))
    elif tally.ended < len(item.playbooks) or _came_to_nothing(tally):  # a later one does not parse
        failures |= dict.fromkeys(rest, _never_ran(item, rest, tally))
    return [
        Outcome(
            machine=name,
            counts=counts.get(name, Counts()),
            failure=failures.get(name),
            changes=tuple(tally.changes.get(name, ())),
        )
        for name in machines
    ]


def nothing_matches(item: Ansible, machines: Sequence[str], known_groups: Sequence[str], realm: Realm) -> list[Outcome]:
    """The verdict on a playbook without a single host to work on."""
    failure = Failure(
        machines=tuple(machines),
        brief=f"provisioner {label(item)}: no play of {item.title} matches any machine",
        details=f"Its `hosts:` name none of these groups: {', '.join(['all', *known_groups])}; nor a machine.",
        hint=realm.graph,
    )
    return [Outcome(machine=name, failure=failure) for name in machines]


def _never_ran(item: Ansible, machines: Sequence[str], tally: Tally) -> Failure:
    return Failure(
        machines=tuple(machines),
        brief=f"provisioner {label(item)}: ansible-playbook could not run {_unfinished(item, tally)}",
        details="\n".join(tally.errors) or "It said nothing.",
    )


def _came_to_nothing(tally: Tally) -> bool:
    """Whether Ansible says that it failed, and of no host: no task of that name to start at, for one."""
    said = tally.counts == {} and any("ERROR" in line for line in tally.errors)
    return not tally.bad and (bool(tally.status) or said)


def _left_out(tally: Tally) -> list[str]:
    """Hosts that the playbook added and that no task ran on, though plays after that had nobody to work on."""
    return sorted(set(tally.added) - set(tally.counts or {})) if tally.nowhere else []


def _added_in_vain(item: Ansible, machines: Sequence[str], added: Sequence[str], tally: Tally) -> Failure:
    return Failure(
        machines=tuple(machines),
        brief=f"provisioner {label(item)}: no play ran on {', '.join(added)}, which the playbook added (add_host)",
        details=f"Without a host to work on: {', '.join(tally.nowhere)}. Where the inventory is not vmctl's own, "
        "a run is limited to the hosts that were asked for.",
        hint="have the hosts in the inventory, or run the play by ansible-playbook",
    )


def _unfinished(item: Ansible, tally: Tally) -> str:
    return ", ".join(path.name for path in item.playbooks[tally.ended :] or item.playbooks[-1:])


def _host_failure(item: Ansible, name: str, tally: Tally, realm: Realm) -> Failure:
    counts = (tally.counts or {})[name]
    unreachable = bool(counts.unreachable) and not counts.failed
    task = tally.failures.get(name)
    if unreachable:
        brief = f"{name}: Ansible could not reach it (provisioner {label(item)})"
        return Failure(machines=(name,), brief=brief, details=str(task or ""), unreachable=True, hint=realm.enter(name))
    what = f"task '{task.task}' failed" if task else "a task failed"
    where = f" at {task.place}" if task and task.place else ""
    brief = f"{name}: {what}{where} (provisioner {label(item)})"
    if task is None:
        return Failure(machines=(name,), brief=brief)
    first = tally.first.get(name, task)
    details = task.message if first == task else f"{task.message}\nFailed first: {first}"
    return Failure(machines=(name,), brief=brief, details=details, task=task.task, place=task.place)


def _failed_elsewhere(item: Ansible, machines: Sequence[str], hosts: Sequence[str], tally: Tally) -> Failure:
    said = [f"{host}: {tally.failures[host]}" for host in hosts if host in tally.failures]
    brief = f"provisioner {label(item)} failed on {', '.join(hosts)}"
    return Failure(machines=tuple(machines), brief=brief, details="\n".join(said))


def _cut_short(item: Ansible, machines: Sequence[str], hosts: Sequence[str], tally: Tally) -> Failure:
    brief = f"{', '.join(machines)}: provisioner {label(item)} did not get to its end"
    details = f"Ansible gave up after failures on {', '.join(hosts) or 'all hosts of a play'}."
    follows = bool(hosts) and not any((tally.counts or {})[host].failed for host in hosts)
    return Failure(machines=tuple(machines), brief=brief, details=details, follows=follows)
