"""What the user's ``ansible.cfg`` says, as far as vmctl has defaults or additions for the same settings."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

Said = Mapping[tuple[str, str], str]
"""Section and key of a setting → its value."""

PATHS = {
    "ANSIBLE_ROLES_PATH": (
        "roles", ("roles_path",),
        "{home}/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles",
    ),
    "ANSIBLE_COLLECTIONS_PATH": (
        "collections", ("collections_path", "collections_paths"),
        "{home}/.ansible/collections:/usr/share/ansible/collections",
    ),
}  # fmt: skip
"""Environment variable → directory of ours, names of the same setting in ansible.cfg, and Ansible's own default."""


def file_in_force(directory: Path, environment: Mapping[str, str]) -> Path | None:
    """The ansible.cfg that an ansible-playbook in ``directory`` obeys."""
    named = environment.get("ANSIBLE_CONFIG")
    home = Path(environment.get("HOME", "/"))
    usual = [directory / "ansible.cfg", home / ".ansible.cfg", Path("/etc/ansible/ansible.cfg")]
    candidates = [Path(named).expanduser()] if named else usual
    return next((path for path in candidates if path.is_file()), None)


def said(directory: Path, environment: Mapping[str, str]) -> Said:
    """The settings in force. An ansible.cfg that cannot be read is Ansible's to report."""
    in_force = file_in_force(directory, environment)
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",), strict=False)
    try:
        if in_force:
            parser.read_string(in_force.read_text(encoding="utf-8"))
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}
    found = {(section, key): value for section in parser.sections() for key, value in parser[section].items()}
    for _, keys, _ in PATHS.values():
        for key in keys:
            if in_force and ("defaults", key) in found:
                found["defaults", key] = _from(in_force.parent, found["defaults", key])
    return found


def _from(base: Path, paths: str) -> str:
    """Search paths of an ansible.cfg, which start from its directory."""
    return ":".join(str(base / Path(os.path.expandvars(path.strip())).expanduser()) for path in paths.split(":"))


def paths_before(content: Path, settings: Said, environment: Mapping[str, str]) -> dict[str, str]:
    """Ansible's search paths, with those of ``content`` first."""
    found = {}
    for variable, (ours, keys, default) in PATHS.items():
        configured = next((settings["defaults", key] for key in keys if ("defaults", key) in settings), "")
        usual = environment.get(variable) or configured or default.format(home=environment.get("HOME", "/"))
        found[variable] = f"{content / ours}:{usual}"
    return found
