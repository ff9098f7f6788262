"""How ansible-playbook is told to work: vmctl's defaults below the user's own configuration, its rules above it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from vmctl import process
from vmctl.provision import configuration, locales
from vmctl.ssh import server_options

CONNECT_TIMEOUT = 30  # seconds; an emulated guest under load is slow to answer

# Environment variable → where ansible.cfg says the same, and the value where nobody has said anything.
DEFAULTS = {
    "ANSIBLE_PIPELINING": (("ssh_connection", "pipelining"), "True"),
    "ANSIBLE_SSH_ARGS": (("ssh_connection", "ssh_args"), "-o ControlMaster=auto -o ControlPersist=60s"),
    "ANSIBLE_TIMEOUT": (("defaults", "timeout"), str(CONNECT_TIMEOUT)),
    "ANSIBLE_PYTHON_INTERPRETER": (("defaults", "interpreter_python"), "auto_silent"),
    "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": (("defaults", "force_valid_group_names"), "ignore"),
}
SSH_ARGS = ("ssh_connection", "ssh_args")
LEAST_FORKS = 5  # Ansible's own default
MOST_FORKS = 50


def playbook_program(wanted: str = "", directory: Path | None = None) -> str:
    """The ``ansible-playbook`` to run.

    Args:
        wanted: a path (from ``directory``), or a name in PATH; "" = the one of vmctl's own environment, else in PATH.
        directory: the project's.

    Raises:
        ProgramMissing: there is none.
    """
    return _program(wanted, directory) if wanted else program("ansible-playbook")


def program(name: str) -> str:
    """One of Ansible's programs, of vmctl's own environment, else the one in PATH.

    Raises:
        ProgramMissing: there is none.
    """
    own = Path(sys.executable).parent / name
    return str(own) if os.access(own, os.X_OK) else process.find(name, package="ansible-core")


def _program(wanted: str, directory: Path | None) -> str:
    if "/" not in wanted:
        return process.find(wanted, package="ansible-core")
    path = (directory or Path()) / Path(wanted).expanduser()
    if not os.access(path, os.X_OK):
        raise process.ProgramMissing(f"there is no program {path}", hint="vmctl validate")
    return str(path)


def environment(
    directory: Path,
    *,
    hosts: int,
    color: bool,
    sockets: Path,
    own: Mapping[str, str] = MappingProxyType({}),
    content: Path | None = None,
) -> dict[str, str]:
    """Variables for ansible-playbook, to be added to those of this process.

    Args:
        directory: where it will run; an ``ansible.cfg`` there counts.
        hosts: how many machines the run is about.
        color: whether its output carries colours.
        sockets: directory for ssh's control sockets; its path must be short.
        own: what the provisioner sets; wins over everything but the rules.
        content: directory with ``roles`` and ``collections`` that come before those of the configuration.
    """
    in_force = {**os.environ, **own}
    said = configuration.said(directory, in_force)
    defaults = {name: value for name, (where, value) in DEFAULTS.items() if where not in said}
    if ("defaults", "forks") not in said:
        defaults["ANSIBLE_FORKS"] = str(min(MOST_FORKS, max(LEAST_FORKS, hosts)))
    usual = in_force.get("ANSIBLE_SSH_ARGS") or said.get(SSH_ARGS) or DEFAULTS["ANSIBLE_SSH_ARGS"][1]
    rules = {
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_SSH_ARGS": f"{shlex.join(server_options.words(server_options.UNATTENDED))} {usual}",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_FORCE_COLOR" if color else "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NOCOWS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    if content:
        rules |= configuration.paths_before(content, said, in_force)
    defaults = {name: value for name, value in defaults.items() if name not in in_force}
    return defaults | locales.utf8(os.environ) | dict(own) | rules
