"""The `ansible` provisioner with `mode: guest`: a run inside each machine, for that machine alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmctl import json_text, process
from vmctl.errors import Unreachable
from vmctl.events import Output
from vmctl.process import CommandFailed
from vmctl.provision import (
    ansible_install,
    ansible_provisioner,
    arguments,
    galaxy,
    playbook,
    provisioner_result,
    python,
    shell_provisioner,
)
from vmctl.provision.ansible_events import PlayRecap, plain
from vmctl.provision.context import SOURCE, RunContext
from vmctl.provision.failure import label
from vmctl.provision.guest_payload import CONTENT, PLUGIN, PRIVATE, GuestPayload
from vmctl.provision.machine_hosts import MachineHosts
from vmctl.provision.parallel import each
from vmctl.provision.provisioner_result import ProvisionerResult, failed
from vmctl.provision.target import Target
from vmctl.spec import Ansible

if TYPE_CHECKING:
    from vmctl.ssh.link import Link

UNPACK = 'tar -xzof - -C "$1" && mkdir -p "$2"'
BEGIN = 'cd "$1" && shift && exec "$@"'
ROLES = "~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles"
COLLECTIONS = "~/.ansible/collections:/usr/share/ansible/collections"


def provision(item: Ansible, number: int, targets: Sequence[Target], context: RunContext) -> list[ProvisionerResult]:
    """Run the playbooks in all targets, side by side.

    Raises:
        Interrupted: the user asked to stop; the runs have been ended in the guests that answer.
        VmctlError: its roles and collections could not be installed, or a vault's password cannot be had.
    """
    python.ensure(item, targets, number, context)
    stage = GuestPayload(item, context.host_set.root, galaxy.installed(item, context), _secrets(item, context))
    return each(targets, lambda target: _provision(item, stage, target, context))


def _secrets(item: Ansible, context: RunContext) -> dict[str, str]:
    """The vaults' passwords; a password file may be a program."""
    typed = context.passwords.of(item)
    found = {}
    for name, path in item.vault.items():
        if path is None:
            found[name] = typed[f"--vault-id={name}@"]
        elif os.access(path, os.X_OK):
            found[name] = process.run([path], cwd=context.host_set.root, named=True).stdout.strip()
        else:
            found[name] = path.read_text(encoding="utf-8").strip()
    return found


def _provision(item: Ansible, stage: GuestPayload, target: Target, context: RunContext) -> ProvisionerResult:
    try:
        with target.connect() as connection:
            program = ansible_install.ensure(item, target.name, connection, context.report)
            recap = _run(stage, program, target, connection, context)
    except Unreachable as error:
        return failed(
            target.name,
            f"{error.brief} (provisioner {label(item)})",
            error.details,
            unreachable=True,
            hint=error.hint,
        )
    except (ansible_install.NoAnsible, CommandFailed) as error:
        return failed(
            target.name, f"{target.name}: {error.brief} (provisioner {label(item)})", error.details, hint=error.hint
        )
    ansible_provisioner.tell_gaps(item, [target.name], recap, context.report)
    (outcome,) = provisioner_result.judge(item, [target.name], recap, context.host_set)
    return outcome


def _run(stage: GuestPayload, program: str, target: Target, connection: Link, context: RunContext) -> PlayRecap:
    item = stage.item
    recap = PlayRecap()

    def on_line(line: str) -> None:
        context.report(Output(machine=target.name, line=line, source=SOURCE))
        if plain(line).startswith(("ERROR!", "[ERROR]")):
            recap.errors.append(plain(line))

    with shell_provisioner.private_directory(connection, sudo=False) as place:
        archive = stage.archive(_inventory(item, target, context), playbook.jsonable(item.extra_vars))
        connection.run(["sh", "-c", UNPACK, "sh", place, stage.directory(place)], input=archive)
        there = stage.translated(place)
        environment = shell_provisioner.environment(_environment(there, stage, place, context))
        connection.put(environment.encode(), f"{place}/env", mode=0o600)
        argv = ["sh", "-c", BEGIN, "sh", stage.directory(place), program, *_words(there, place, context)]
        done = connection.run(["sh", "-c", shell_provisioner.START, "sh", place, *argv], check=False, on_line=on_line)
        events = connection.run(["cat", f"{place}/events"], check=False).stdout
    for line in events.splitlines():
        try:
            recap.add(json_text.loads(line))
        except (ValueError, TypeError, AttributeError):
            recap.errors.append(f"{target.name} says what no Ansible says: {line[:200]}")
    if recap.counts is None:
        recap.errors.extend([] if recap.errors else plain(done.stdout + done.stderr).splitlines())
    return recap


def _words(there: Ansible, place: str, context: RunContext) -> list[str]:
    words = [f"--inventory={place}/{PRIVATE}/inventory.yml", f"--limit={playbook.but_for_others(there.limit)}"]
    words += arguments.words(there, check=context.mode.check, diff=context.mode.diff)
    words += [f"--extra-vars=@{place}/{PRIVATE}/vars.json"]
    words += [f"-{'v' * there.verbosity}"] if there.verbosity else []
    return [*words, *(str(path) for path in there.playbooks)]


def _environment(there: Ansible, stage: GuestPayload, place: str, context: RunContext) -> dict[str, str]:
    found = {
        "ANSIBLE_PYTHON_INTERPRETER": there.python_interpreter or "auto_silent",
        "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": "ignore",
        **arguments.environment(there),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "ANSIBLE_FORCE_COLOR" if context.color else "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_CALLBACK_PLUGINS": f"{place}/plugins",
        "ANSIBLE_CALLBACKS_ENABLED": PLUGIN,
        "VMCTL_EVENTS": f"{place}/events",
    }
    if stage.content:
        found["ANSIBLE_ROLES_PATH"] = f"{place}/{CONTENT}/roles:{ROLES}"
        found["ANSIBLE_COLLECTIONS_PATH"] = f"{place}/{CONTENT}/collections:{COLLECTIONS}"
    return found


def _inventory(item: Ansible, target: Target, context: RunContext) -> str:
    assert isinstance(context.host_set, MachineHosts)  # noqa: S101  `ansible.check` refuses others
    return context.host_set.inventory_inside(item, target.name)
