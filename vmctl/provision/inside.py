"""The `ansible` provisioner with `mode: guest`: a run inside each machine, for that machine alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmctl import json_text, process
from vmctl.errors import Unreachable, VmctlError
from vmctl.events import Output
from vmctl.process import CommandFailed
from vmctl.provision import ansible, arguments, galaxy, guest_ansible, playbook, python, shell, verdict
from vmctl.provision.failure import Failure, label
from vmctl.provision.machines import Machines
from vmctl.provision.parallel import each
from vmctl.provision.staging import CONTENT, PLUGIN, PRIVATE, Stage
from vmctl.provision.surroundings import SOURCE, Surroundings
from vmctl.provision.tally import Tally, plain
from vmctl.provision.target import Counts, Target
from vmctl.provision.verdict import Outcome
from vmctl.spec import Ansible

if TYPE_CHECKING:
    from vmctl.ssh.link import Link

UNPACK = 'tar -xzof - -C "$1" && mkdir -p "$2"'
BEGIN = 'cd "$1" && shift && exec "$@"'
ROLES = "~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles"
COLLECTIONS = "~/.ansible/collections:/usr/share/ansible/collections"


def provision(item: Ansible, number: int, targets: Sequence[Target], around: Surroundings) -> list[Outcome]:
    """Run the playbooks in all targets, side by side.

    Raises:
        Interrupted: the user asked to stop; the runs have been ended in the guests that answer.
        VmctlError: its roles and collections could not be installed, or a vault's password can not be had.
    """
    python.ensure(item, targets, number, around)
    stage = Stage(item, around.realm.root, galaxy.installed(item, around), _secrets(item, around))
    return each(targets, lambda target: _provision(item, stage, target, around))


def _secrets(item: Ansible, around: Surroundings) -> dict[str, str]:
    """The vaults' passwords; a password file may be a program."""
    typed = around.passwords.of(item)
    found = {}
    for name, path in item.vault.items():
        if path is None:
            found[name] = typed[f"--vault-id={name}@"]
        elif os.access(path, os.X_OK):
            found[name] = process.run([path], cwd=around.realm.root, named=True).stdout.strip()
        else:
            found[name] = path.read_text(encoding="utf-8").strip()
    return found


def _provision(item: Ansible, stage: Stage, target: Target, around: Surroundings) -> Outcome:
    try:
        with target.connect() as connection:
            program = guest_ansible.ensure(item, target.name, connection, around.report)
            tally = _run(stage, program, target, connection, around)
    except Unreachable as error:
        return _failed(target, f"{error.brief} (provisioner {label(item)})", error, unreachable=True)
    except (guest_ansible.NoAnsible, CommandFailed) as error:
        return _failed(target, f"{target.name}: {error.brief} (provisioner {label(item)})", error)
    ansible.tell_gaps(item, [target.name], tally, around.report)
    (outcome,) = verdict.judge(item, [target.name], tally, around.realm)
    return outcome


def _run(stage: Stage, program: str, target: Target, connection: Link, around: Surroundings) -> Tally:
    item = stage.item
    tally = Tally()

    def on_line(line: str) -> None:
        around.report(Output(machine=target.name, line=line, source=SOURCE))
        if plain(line).startswith(("ERROR!", "[ERROR]")):
            tally.errors.append(plain(line))

    with shell.private_directory(connection, sudo=False) as place:
        archive = stage.archive(_inventory(item, target, around), playbook.jsonable(item.extra_vars))
        connection.run(["sh", "-c", UNPACK, "sh", place, stage.directory(place)], input=archive)
        there = stage.translated(place)
        environment = shell.environment(_environment(there, stage, place, around))
        connection.put(environment.encode(), f"{place}/env", mode=0o600)
        argv = ["sh", "-c", BEGIN, "sh", stage.directory(place), program, *_words(there, place, around)]
        done = connection.run(["sh", "-c", shell.START, "sh", place, *argv], check=False, on_line=on_line)
        events = connection.run(["cat", f"{place}/events"], check=False).stdout
    for line in events.splitlines():
        try:
            tally.add(json_text.loads(line))
        except (ValueError, TypeError, AttributeError):
            tally.errors.append(f"{target.name} says what no Ansible says: {line[:200]}")
    if tally.counts is None:
        tally.errors.extend([] if tally.errors else plain(done.stdout + done.stderr).splitlines())
    return tally


def _words(there: Ansible, place: str, around: Surroundings) -> list[str]:
    words = [f"--inventory={place}/{PRIVATE}/inventory.yml", f"--limit={playbook.but_for_others(there.limit)}"]
    words += arguments.words(there, check=around.mode.check, diff=around.mode.diff)
    words += [f"--extra-vars=@{place}/{PRIVATE}/vars.json"]
    words += [f"-{'v' * there.verbosity}"] if there.verbosity else []
    return [*words, *(str(path) for path in there.playbooks)]


def _environment(there: Ansible, stage: Stage, place: str, around: Surroundings) -> dict[str, str]:
    found = {
        "ANSIBLE_PYTHON_INTERPRETER": there.python_interpreter or "auto_silent",
        "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": "ignore",
        **arguments.environment(there),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "ANSIBLE_FORCE_COLOR" if around.color else "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_CALLBACK_PLUGINS": f"{place}/plugins",
        "ANSIBLE_CALLBACKS_ENABLED": PLUGIN,
        "VMCTL_EVENTS": f"{place}/events",
    }
    if stage.content:
        found["ANSIBLE_ROLES_PATH"] = f"{place}/{CONTENT}/roles:{ROLES}"
        found["ANSIBLE_COLLECTIONS_PATH"] = f"{place}/{CONTENT}/collections:{COLLECTIONS}"
    return found


def _inventory(item: Ansible, target: Target, around: Surroundings) -> str:
    assert isinstance(around.realm, Machines)  # noqa: S101  `ansible.check` refuses others
    return around.realm.inventory_inside(item, target.name)


def _failed(target: Target, brief: str, error: VmctlError, *, unreachable: bool = False) -> Outcome:
    failure = Failure(
        machines=(target.name,), brief=brief, details=error.details, unreachable=unreachable, hint=error.hint
    )
    return Outcome(machine=target.name, counts=Counts(failed=not unreachable, unreachable=unreachable), failure=failure)
