"""The `ansible` provisioner: one run over all machines that need it, and what it means for each of them."""

from __future__ import annotations

from collections.abc import Sequence

from vmctl.errors import UsageError
from vmctl.events import Notice
from vmctl.provision import playbook, python, verdict
from vmctl.provision.realm import Realm
from vmctl.provision.surroundings import Surroundings
from vmctl.provision.target import Target
from vmctl.provision.verdict import Outcome
from vmctl.spec import Ansible


def check(realm: Realm, item: Ansible) -> None:
    """Refuse what can not work, before anything runs.

    Raises:
        UsageError: the playbook is not there, or a group makes no sense.
    """
    if not item.playbook.is_file():
        where = f"{item.place}: " if item.place else ""
        raise UsageError(
            f"{where}provisioner '{item.name}': there is no playbook {item.playbook}", hint="vmctl validate"
        )
    realm.groups(item)


def provision(item: Ansible, number: int, targets: Sequence[Target], around: Surroundings) -> list[Outcome]:
    """Run the playbook once over all targets.

    Raises:
        Interrupted: the user asked to stop.
    """
    python.ensure(item, targets, number, around)
    names = tuple(target.name for target in targets)
    run = playbook.Run(
        name=f"{number}-playbook",
        playbook=item.playbook,
        inventory=around.realm.inventory(item),
        sources=around.realm.sources,
        limit=names,
        directory=around.realm.root,
        check=around.mode.check,
        diff=around.mode.diff,
        extra_vars=item.extra_vars,
        become=item.become,
        tags=item.tags,
        skip_tags=item.skip_tags,
        verbosity=item.verbosity,
        color=around.color,
    )
    tally = around.play(run)
    if tally.counts == {} and not playbook.matches_any(run, around.bench):
        return verdict.nothing_matches(item, names, list(around.realm.groups(item)), around.realm)
    for name in names:
        if tally.counts is not None and name not in tally.counts and not tally.cut_short:
            around.report(Notice(machine=name, text=f"{item.playbook.name} has no play for it"))
    return verdict.judge(item, names, tally, around.realm)
