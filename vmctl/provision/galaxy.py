"""Roles and collections that a provisioner requires, installed for the project by ansible-galaxy.

Each state of a requirements file (and of what it names on this host) has a directory of its own in the project's
`galaxy`, which appears when it is whole; a changed file is therefore installed anew, beside the old state.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from vmctl import process
from vmctl.errors import VmctlError
from vmctl.events import StepDone, StepStarted
from vmctl.provision import inputs, requirements, settings
from vmctl.provision.context import RunContext
from vmctl.provision.failure import label
from vmctl.provision.host_set import HostSet
from vmctl.provision.requirements import Requirements
from vmctl.spec import Ansible
from vmctl.store import files, locks

STEP = "galaxy"
NAME_LENGTH = 16  # hex digits


def installed(item: Ansible, context: RunContext) -> Path | None:
    """The directory with the provisioner's roles and collections; None when it requires none.

    Raises:
        UsageError: the file makes no sense.
        VmctlError: ansible-galaxy failed.
        Interrupted: the user asked to stop; nothing half is left.
    """
    if item.requirements is None:
        return None
    wanted = requirements.read(item.requirements)
    parent = context.layout.galaxy
    place = parent / _name(item.requirements)
    if files.exists(place):
        return place
    files.make_directory(parent)
    with locks.hold(parent / "lock", "installing roles and collections"):
        if not files.exists(place):
            _install(item, wanted, place, context)
        _prune(parent, context.host_set)
    return place


def _name(file: Path) -> str:
    return inputs.requirements_digest(file)[:NAME_LENGTH]


def _install(item: Ansible, wanted: Requirements, place: Path, context: RunContext) -> None:
    import time

    text = f"installing {len(wanted.roles)} roles and {len(wanted.collections)} collections of {wanted.file.name}"
    context.report(StepStarted(step=STEP, text=text))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".part-", dir=place.parent) as scratch:
        part = Path(scratch, "content")
        for kind in ("roles", "collections"):
            files.make_directory(part / kind)
        entries = wanted.written_for_galaxy(Path(scratch))
        for kind, option in (("roles", "role"), ("collections", "collection")):
            if entries[kind]:
                _run(option, {kind: entries[kind]}, part / kind, item, context)
        part.rename(place)
    context.report(
        StepDone(step=STEP, seconds=time.monotonic() - started, text=text.replace("installing", "installed"))
    )


def _run(kind: str, entries: object, target: Path, item: Ansible, context: RunContext) -> None:
    file = target.parent.with_name(f"{kind}.yml")
    files.write_json(file, entries)  # JSON is YAML
    argv = [settings.program("ansible-galaxy"), *(kind, "install"), "-r", str(file), "-p", str(target), "--force"]
    environment = {**settings.utf8_locale(os.environ), **item.env, "ANSIBLE_NOCOLOR": "1", "PYTHONWARNINGS": "ignore"}
    if item.config_file:
        environment["ANSIBLE_CONFIG"] = str(item.config_file)
    done = process.run(argv, cwd=context.host_set.root, env=environment, check=False)
    if done.status != 0 or "was NOT installed successfully" in done.stderr + done.stdout:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise VmctlError(
            f"provisioner {label(item)}: the {kind}s of {item.requirements} could not be installed",
            details="\n".join(lines[-process.DETAIL_LINES :]),
            hint="correct it, then run the command again",
        )


def _prune(parent: Path, host_set: HostSet) -> None:
    """Remove states that no provisioner of the project names any more."""
    items = [item for item in host_set.provisioners if isinstance(item, Ansible)]
    used = {_name(item.requirements) for item in items if item.requirements}
    for name in files.names(parent):
        if name not in used:
            with contextlib.suppress(OSError):
                files.remove_tree(parent / name)
