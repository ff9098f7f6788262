"""The `ansible` provisioner: one run over all machines that need it, and what it means for each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from vmctl.errors import Unreachable, UsageError
from vmctl.events import Notice, Report, Warned
from vmctl.provision import arguments, galaxy, playbook, provision_state, provisioner_result, settings
from vmctl.provision.ansible_events import PlayRecap
from vmctl.provision.context import RunContext
from vmctl.provision.failure import label
from vmctl.provision.host_set import HostSet
from vmctl.provision.provisioner_result import ProvisionerResult
from vmctl.provision.summary import Counts
from vmctl.provision.target import Target, each
from vmctl.spec import Ansible

NO_HOSTS = "no hosts to target"  # how Ansible says that a limit leaves none
PROBE = "command -v python3 >/dev/null || test -x /usr/libexec/platform-python"


def check(host_set: HostSet, item: Ansible) -> None:
    """Refuse what cannot work, before anything runs.

    Raises:
        UsageError: a file is not there, a group makes no sense, or a server is to run Ansible itself.
        ProgramMissing: there is no ansible-playbook.
    """
    needed = [("playbook", path) for path in item.playbooks]
    needed += [("vault password file", path) for path in item.vault.values() if path]
    needed += [("file of variables", path) for path in item.extra_vars_files]
    needed += [("file of requirements", item.requirements)] if item.requirements else []
    for what, path in needed:
        if not path.is_file():
            raise UsageError(f"provisioner {label(item)}: there is no {what} {path}", hint="vmctl validate")
    host_set.groups(item)
    if item.mode == "guest":
        if host_set.target:
            raise UsageError(
                f"provisioner {label(item)}: mode: guest is for the project's machines, not for servers",
                hint="write mode: host in the Vmfile",
            )
    elif item.playbook_command:
        settings.playbook_program(item.playbook_command, host_set.root)


def provision(item: Ansible, number: int, targets: Sequence[Target], context: RunContext) -> list[ProvisionerResult]:
    """Run the playbooks once over all targets.

    Raises:
        Interrupted: the user asked to stop.
        VmctlError: its roles and collections could not be installed, or it asks for what nobody can answer.
    """
    ensure_python(item, targets, number, context)
    names = tuple(target.name for target in targets)
    host_set = context.host_set
    run = playbook.Run(
        name=f"{number}-playbook",
        playbooks=item.playbooks,
        inventory=host_set.inventory(item),
        sources=(*host_set.sources, *item.inventory),
        targets=names,
        others=host_set.others(item, names),
        limit=item.limit,
        interpreter=item.python_interpreter,
        directory=host_set.root,
        words=tuple(arguments.words(item, check=context.mode.check, diff=context.mode.diff)),
        passwords=context.passwords.of(item),
        extra_vars=item.extra_vars,
        environment=arguments.environment(item),
        program=item.playbook_command,
        content=galaxy.installed(item, context),
        verbosity=item.verbosity,
        color=context.color,
    )
    recap = context.play(run)
    if recap.counts is None and item.limit and any(NO_HOSTS in line for line in recap.errors):
        recap = _limited_away(run, item, recap, context)
    elif recap.counts == {} and not playbook.matches_any(run, context.run_files):
        return provisioner_result.nothing_matches(item, names, list(host_set.groups(item)), host_set)
    tell_gaps(item, names, recap, context.report)
    return provisioner_result.judge(item, names, recap, host_set)


def tell_gaps(item: Ansible, names: Sequence[str], recap: PlayRecap, report: Report) -> None:
    """Tell what did not run though nothing failed: plays without hosts, hosts without tasks, ignored hosts."""
    if recap.counts is None or recap.cut_short:
        return
    for play in recap.nowhere:
        report(Warned(text=f"the play {play} of {item.title} ran nowhere: it matches no host of this run"))
    for name in names:
        if name not in recap.counts:
            chosen = item.tags or item.skip_tags or item.start_at_task
            why = "ran no task on it" if chosen and not recap.tasks else "has no play for it"
            report(Notice(machine=name, text=f"{item.title} {why}"))
        elif name in recap.ignored - recap.bad:
            report(Warned(machine=name, text=f"{item.title} could not reach it in a task, and ignores that"))


def _limited_away(run: playbook.Run, item: Ansible, recap: PlayRecap, context: RunContext) -> PlayRecap:
    """What it means that the entry's limit leaves none of the run's machines: nothing, if others match it."""
    if playbook.matches_any(run, context.run_files, item.limit):
        return dataclasses.replace(recap, counts={"": Counts()}, ended=len(item.playbooks), status=0)
    return recap


def ensure_python(item: Ansible, targets: Sequence[Target], number: int, context: RunContext) -> None:
    """Have Python in machines that Ansible has never worked on; where that fails, warn and let the playbook tell.

    Servers are left as they are: what is installed there is for their playbooks to say.

    Raises:
        Interrupted: the user asked to stop.
    """
    fresh = [target for target in targets if target.layout and not provision_state.has_had_ansible(target.layout)]
    if not fresh or context.mode.check or item.python_interpreter or "ansible_python_interpreter" in item.extra_vars:
        return
    lacking = [target for target, lacks in zip(fresh, each(fresh, _lacks_python), strict=True) if lacks]
    if lacking:
        _bootstrap(lacking, number, context)


def _lacks_python(target: Target) -> bool:
    try:
        with target.connect() as connection:
            return connection.run(PROBE, check=False).status != 0
    except Unreachable:
        return False  # Ansible will say so, of this machine, and go on with the others


def _bootstrap(targets: Sequence[Target], number: int, context: RunContext) -> None:
    names = tuple(target.name for target in targets)
    run = playbook.Run(
        name=f"{number}-bootstrap",
        playbooks=(bundled("bootstrap.yml"),),
        inventory=context.host_set.inventory(None),
        targets=names,
        others=context.host_set.others(None, names),
        directory=context.host_set.root,
        color=context.color,
    )
    recap = context.play(run)
    for name in names:
        if recap.counts is None or name in recap.bad or name not in recap.counts:
            text = f"there is no python3 in the guest, and it could not be installed: {recap.failures.get(name, '')}"
            context.report(Warned(machine=name, text=text, hint=f"vmctl ssh {name}"))


def bundled(name: str) -> Path:
    """A playbook that ships with vmctl."""
    return Path(str(resources.files("vmctl_playbooks") / name))
