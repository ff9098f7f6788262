"""The `ansible` provisioner: one run over all machines that need it, and what it means for each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vmctl.errors import UsageError
from vmctl.events import Notice, Report, Warned
from vmctl.provision import arguments, galaxy, playbook, python, settings, verdict
from vmctl.provision.failure import label
from vmctl.provision.realm import Realm
from vmctl.provision.surroundings import Surroundings
from vmctl.provision.tally import Tally
from vmctl.provision.target import Counts, Target
from vmctl.provision.verdict import Outcome
from vmctl.spec import Ansible

NO_HOSTS = "no hosts to target"  # how Ansible says that a limit leaves none


def check(realm: Realm, item: Ansible) -> None:
    """Refuse what can not work, before anything runs.

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
    realm.groups(item)
    if item.mode == "guest":
        if realm.target:
            raise UsageError(
                f"provisioner {label(item)}: mode: guest is for the project's machines, not for servers",
                hint="write mode: host in the Vmfile",
            )
    elif item.playbook_command:
        settings.playbook_program(item.playbook_command, realm.root)


def provision(item: Ansible, number: int, targets: Sequence[Target], around: Surroundings) -> list[Outcome]:
    """Run the playbooks once over all targets.

    Raises:
        Interrupted: the user asked to stop.
        VmctlError: its roles and collections could not be installed, or it asks for what nobody can answer.
    """
    python.ensure(item, targets, number, around)
    names = tuple(target.name for target in targets)
    realm = around.realm
    run = playbook.Run(
        name=f"{number}-playbook",
        playbooks=item.playbooks,
        inventory=realm.inventory(item),
        sources=(*realm.sources, *item.inventory),
        targets=names,
        others=realm.others(item, names),
        limit=item.limit,
        interpreter=item.python_interpreter,
        directory=realm.root,
        words=tuple(arguments.words(item, check=around.mode.check, diff=around.mode.diff)),
        passwords=around.passwords.of(item),
        extra_vars=item.extra_vars,
        environment=arguments.environment(item),
        program=item.playbook_command,
        content=galaxy.installed(item, around),
        verbosity=item.verbosity,
        color=around.color,
    )
    tally = around.play(run)
    if tally.counts is None and item.limit and any(NO_HOSTS in line for line in tally.errors):
        tally = _limited_away(run, item, tally, around)
    elif tally.counts == {} and not playbook.matches_any(run, around.bench):
        return verdict.nothing_matches(item, names, list(realm.groups(item)), realm)
    tell_gaps(item, names, tally, around.report)
    return verdict.judge(item, names, tally, realm)


def tell_gaps(item: Ansible, names: Sequence[str], tally: Tally, report: Report) -> None:
    """Tell what did not run though nothing failed: plays without hosts, hosts without tasks, ignored hosts."""
    if tally.counts is None or tally.cut_short:
        return
    for play in tally.nowhere:
        report(Warned(text=f"the play {play} of {item.title} ran nowhere: it matches no host of this run"))
    for name in names:
        if name not in tally.counts:
            chosen = item.tags or item.skip_tags or item.start_at_task
            why = "ran no task on it" if chosen and not tally.tasks else "has no play for it"
            report(Notice(machine=name, text=f"{item.title} {why}"))
        elif name in tally.ignored - tally.bad:
            report(Warned(machine=name, text=f"{item.title} could not reach it in a task, and ignores that"))


def _limited_away(run: playbook.Run, item: Ansible, tally: Tally, around: Surroundings) -> Tally:
    """What it means that the entry's limit leaves none of the run's machines: nothing, if others match it."""
    if playbook.matches_any(run, around.bench, item.limit):
        return dataclasses.replace(tally, counts={"": Counts()}, ended=len(item.playbooks), status=0)
    return tally
