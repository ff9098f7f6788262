"""How ansible-playbook is told to work: vmctl's defaults below the user's own configuration, its rules above it."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from vmctl import process

CONNECT_TIMEOUT = 30  # seconds; an emulated guest under load is slow to answer

# Environment variable → where ansible.cfg says the same, and the value where nobody has said anything.
DEFAULTS = {
    "ANSIBLE_PIPELINING": (("ssh_connection", "pipelining"), "True"),
    "ANSIBLE_SSH_ARGS": (("ssh_connection", "ssh_args"), "-o ControlMaster=auto -o ControlPersist=60s"),
    "ANSIBLE_TIMEOUT": (("defaults", "timeout"), str(CONNECT_TIMEOUT)),
    "ANSIBLE_PYTHON_INTERPRETER": (("defaults", "interpreter_python"), "auto_silent"),
    "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": (("defaults", "force_valid_group_names"), "ignore"),
}
LEAST_FORKS = 5  # Ansible's own default
MOST_FORKS = 50


def playbook_program() -> str:
    """The ``ansible-playbook`` of vmctl's own environment, else the one in PATH.

    Raises:
        ProgramMissing: there is none.
    """
    own = Path(sys.executable).parent / "ansible-playbook"
    return str(own) if os.access(own, os.X_OK) else process.find("ansible-playbook", package="ansible-core")


def environment(directory: Path, *, hosts: int, color: bool, sockets: Path) -> dict[str, str]:
    """Variables for ansible-playbook, to be added to those of this process.

    Args:
        directory: where it will run; an ``ansible.cfg`` there counts.
        hosts: how many machines the run is about.
        color: whether its output carries colours.
        sockets: directory for ssh's control sockets; its path must be short.
    """
    said = _configured(directory)
    defaults = {name: value for name, (where, value) in DEFAULTS.items() if where not in said}
    if ("defaults", "forks") not in said:
        defaults["ANSIBLE_FORKS"] = str(min(MOST_FORKS, max(LEAST_FORKS, hosts)))
    rules = {
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_FORCE_COLOR" if color else "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NOCOWS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    return {name: value for name, value in defaults.items() if name not in os.environ} | rules


def _configured(directory: Path, surroundings: Mapping[str, str] = os.environ) -> set[tuple[str, str]]:
    """What the ansible.cfg in force says: pairs of section and key. One that can not be read is Ansible's to report."""
    named = surroundings.get("ANSIBLE_CONFIG")
    home = Path(surroundings.get("HOME", "/"))
    usual = [directory / "ansible.cfg", home / ".ansible.cfg", Path("/etc/ansible/ansible.cfg")]
    candidates = [Path(named).expanduser()] if named else usual
    in_force = next((path for path in candidates if path.is_file()), None)
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",), strict=False)
    try:
        if in_force:
            parser.read_string(in_force.read_text(encoding="utf-8"))
    except (configparser.Error, OSError, UnicodeDecodeError):
        return set()
    return {(section, key) for section in parser.sections() for key in parser[section]}
