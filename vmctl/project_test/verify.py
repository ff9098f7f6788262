"""The verifiers of a test: a playbook, tests for pytest (pytest-testinfra as well), or a script in every machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import resources, util
from pathlib import Path

from msgspec import structs

from vmctl import logins, process, provision, ssh
from vmctl.errors import VmctlError
from vmctl.events import Output
from vmctl.login import Login
from vmctl.provision.machine_hosts import MachineHosts
from vmctl.spec import Ansible, Provisioner, Shell, Verifier
from vmctl.store import files
from vmctl.workspace import Workspace, require_known

PLUGIN = "vmctl_machines"
NOTHING_COLLECTED = 5  # pytest's status when it found no test


class NotVerified(VmctlError):
    """A verifier found something wrong."""


def verify(workspace: Workspace, names: Sequence[str], verifier: Verifier) -> None:
    """Run one verifier on running machines, whose locks the caller holds.

    Raises:
        ProvisionFailed, NotVerified: what it found.
        VmctlError: it could not be run.
    """
    found = {name: logins.login(workspace, name) for name in names}
    if verifier.pytest is not None:
        _pytest(workspace, list(found.values()), verifier.pytest)
        return
    groups = {key: members for item in _playbooks(workspace) for key, members in item.groups.items()}
    item: Provisioner = Shell(name=verifier.name, script=verifier.script, become=False)
    if verifier.playbook is not None:
        item = Ansible(name=verifier.name, playbook=verifier.playbook, groups=groups)
    targets = [_target(workspace, name, login, item) for name, login in found.items()]
    host_set = MachineHosts(workspace.project, list(found.values()), workspace.layout)
    provision.run(host_set, targets, layout=workspace.layout, report=workspace.report)


def _playbooks(workspace: Workspace) -> list[Ansible]:
    return [item for item in workspace.project.provisioners if isinstance(item, Ansible)]


def _target(workspace: Workspace, name: str, login: Login, item: Provisioner) -> provision.Target:
    """The machine with this one provisioner, which is recorded nowhere."""
    (machine,) = workspace.survey([name])
    made = provision.Target.machine(require_known(machine), login, machine.layout)
    return structs.replace(made, provision=(item,), layout=None)


def _pytest(workspace: Workspace, logins: Sequence[Login], path: Path) -> None:
    config = workspace.layout.root / "ssh_config"
    files.write(config, ssh.render(logins))
    MachineHosts(workspace.project, logins, workspace.layout).prepare()
    plugin = resources.files("vmctl_playbooks") / "verify"
    own_programs = str(Path(sys.executable).parent)  # last, for ansible-inventory, where there is no other
    environment = {
        "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), own_programs]),
        "PYTHONPATH": os.pathsep.join([str(plugin), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "VMCTL_SSH_CONFIG": str(config),
        "VMCTL_INVENTORY": str(workspace.layout.tree.inventory),
        "VMCTL_MACHINES": " ".join(login.machine for login in logins),
    }

    def on_line(line: str) -> None:
        workspace.report(Output(line=line, source="pytest"))

    argv = [*_program(), "-p", PLUGIN, "-p", "no:cacheprovider", "--", str(path)]
    status = process.stream(argv, on_line, cwd=workspace.project.root, env=environment)
    if status != 0:
        why = "found no test" if status == NOTHING_COLLECTED else f"ended with status {status}"
        raise NotVerified(f"pytest {why}: {path}")


def _program() -> list[str]:
    """The user's pytest, first in PATH; else that of vmctl's own environment."""
    import shutil

    if found := shutil.which("pytest"):
        return [found]
    if util.find_spec("pytest"):
        return [sys.executable, "-m", "pytest"]
    raise process.ProgramMissing("the program 'pytest' is not installed", hint="pipx install pytest")
