"""The `ansible` provisioner with `mode: guest`: a run inside each machine, for that machine alone."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from vmctl import json_text, process
from vmctl.errors import Unreachable, VmctlError, in_words
from vmctl.events import Output
from vmctl.process import CommandFailed
from vmctl.provision import (
    ansible_install,
    ansible_provisioner,
    arguments,
    galaxy,
    inputs,
    playbook,
    provisioner_result,
    shell_provisioner,
)
from vmctl.provision.ansible_events import PlayRecap, plain
from vmctl.provision.context import SOURCE, RunContext
from vmctl.provision.failure import label
from vmctl.provision.machine_hosts import MachineHosts
from vmctl.provision.provisioner_result import ProvisionerResult, failed
from vmctl.provision.target import Target, each
from vmctl.spec import Ansible

if TYPE_CHECKING:
    from vmctl.ssh.link import Link

UNPACK = 'tar -xzof - -C "$1" && mkdir -p "$2"'
BEGIN = 'cd "$1" && shift && exec "$@"'
ROLES = "~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles"
COLLECTIONS = "~/.ansible/collections:/usr/share/ansible/collections"
TREE, CONTENT, PRIVATE = "tree", "content", "private"
PLUGIN = "vmctl_events"


def provision(item: Ansible, number: int, targets: Sequence[Target], context: RunContext) -> list[ProvisionerResult]:
    """Run the playbooks in all targets, side by side.

    Raises:
        Interrupted: the user asked to stop; the runs have been ended in the guests that answer.
        VmctlError: its roles and collections could not be installed, or a vault's password cannot be had.
    """
    ansible_provisioner.ensure_python(item, targets, number, context)
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
        argv = ["sh", "-c", BEGIN, "sh", stage.directory(place), program, *_words(there, place, context)]
        start = ["sh", "-c", shell_provisioner.START, "sh", place, *argv]
        done = connection.run(start, input=environment, check=False, on_line=on_line)
        events = connection.run(["cat", f"{place}/events"], check=False).stdout
    for line in events.splitlines():
        try:
            recap.add(json_text.loads(line))
        except (ValueError, TypeError, AttributeError):
            recap.errors.append(f"{target.name} sent what Ansible never sends: {line[:200]}")
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
    if not isinstance(context.host_set, MachineHosts):
        raise TypeError("mode: guest for others than machines, which `ansible_provisioner.check` refuses")
    return context.host_set.inventory_inside(item, target.name)


@dataclass
class GuestPayload:
    """A playbook and all that counts as its inputs, packed for a private directory of the guest.

    Their places relative to each other stay. What a playbook reads from elsewhere is not sent: it has to be there.
    """

    item: Ansible
    root: Path
    """The project's directory."""
    content: Path | None
    """Roles and collections that were installed for it."""
    secrets: Mapping[str, str]
    """Vault id → password."""
    base: Path = field(init=False)

    def __post_init__(self) -> None:
        self._files = list(dict.fromkeys(inputs.ansible_files(self.item)))
        self.base = Path(os.path.commonpath([self.root, *(path.parent for path in self._files)]))

    def directory(self, stage: str) -> str:
        """Where ansible-playbook runs: the project's directory."""
        return str(self._there(stage, self.root))

    def translated(self, stage: str) -> Ansible:
        """The entry with the paths that hold in the guest, when everything lies in ``stage``."""
        vault = {name: Path(stage, PRIVATE, f"vault-{name}") for name in self.secrets}
        config = self.item.config_file
        return structs.replace(
            self.item,
            playbook=self._there(stage, self.item.playbook),
            further_playbooks=tuple(self._there(stage, path) for path in self.item.further_playbooks),
            extra_vars_files=tuple(self._there(stage, path) for path in self.item.extra_vars_files),
            config_file=self._there(stage, config) if config else None,
            vault=vault,
        )

    def _there(self, stage: str, path: Path) -> Path:
        return Path(stage, TREE, path.relative_to(self.base))

    def archive(self, inventory: str, extra_vars: object) -> bytes:
        """All of it as a gzipped tar.

        Raises:
            VmctlError: a file cannot be read.
        """
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
            for path in self._files:
                _add_file(archive, f"{TREE}/{path.relative_to(self.base)}", path)
            for path in inputs.everything_below(self.content) if self.content else ():
                _add_file(archive, f"{CONTENT}/{path.relative_to(self.content or path)}", path)
            plugin = resources.files("vmctl_playbooks") / "callback_plugins" / f"{PLUGIN}.py"
            _add(archive, f"plugins/{PLUGIN}.py", plugin.read_bytes(), 0o644)
            _add(archive, f"{PRIVATE}/inventory.yml", inventory.encode(), 0o600)
            _add(archive, f"{PRIVATE}/vars.json", json.dumps(extra_vars).encode(), 0o600)
            for name, secret in self.secrets.items():
                _add(archive, f"{PRIVATE}/vault-{name}", secret.encode() + b"\n", 0o600)
            if not self.root.is_relative_to(self.base) or self.root != self.base:
                _add_directory(archive, f"{TREE}/{self.root.relative_to(self.base)}")
        return buffer.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> None:
    try:
        data, mode = path.read_bytes(), path.stat().st_mode & 0o777
    except FileNotFoundError:
        return  # a broken link, which nothing can read
    except OSError as error:
        raise VmctlError(f"{path} cannot be read", details=in_words(error)) from error
    _add(archive, name, data, mode)


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode | 0o600
    archive.addfile(member, io.BytesIO(data))


def _add_directory(archive: tarfile.TarFile, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(member)
