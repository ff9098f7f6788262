"""Where ansible-playbook finds roles, collections and plug-ins outside of the project."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from vmctl.provision import settings

LIBRARIES = ("library", "module_utils")
PLUGINS = "_plugins"
USUAL_PLUGINS = "/usr/share/ansible/plugins"
SECOND_NAME = "ANSIBLE_COLLECTIONS_PATHS"
"""What ANSIBLE_COLLECTIONS_PATH was called, which Ansible obeys up to 2.18."""


def names_plugins(variable: str) -> bool:
    """Whether a variable of Ansible's names directories of plug-ins or modules."""
    setting = variable.removeprefix("ANSIBLE_").lower()
    return variable.startswith("ANSIBLE_") and (setting in LIBRARIES or setting.endswith(PLUGINS))


def roles(root: Path, environment: Mapping[str, str]) -> list[Path]:
    """The directories that hold roles, in Ansible's order."""
    return _usual("ANSIBLE_ROLES_PATH", root, environment)


def collections(root: Path, environment: Mapping[str, str]) -> list[Path]:
    """The directories that hold `ansible_collections`, in Ansible's order."""
    further = environment.get(SECOND_NAME, "")
    return [*_directories(root, further), *_usual("ANSIBLE_COLLECTIONS_PATH", root, environment)]


def plugins(root: Path, environment: Mapping[str, str]) -> list[Path]:
    """The directories that hold plug-ins and modules, whichever kind."""
    own = environment.get("ANSIBLE_HOME") or f"{environment.get('HOME', '/')}/.ansible"
    return [*_named(root, environment), *_directories(root, f"{own}/plugins:{USUAL_PLUGINS}")]


def _named(root: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    for variable, value in sorted(environment.items()):
        if names_plugins(variable):
            yield from _directories(root, value)
    configuration = settings.configuration_file(root, environment)
    for (section, key), value in sorted(settings.user_settings(root, environment).items()):
        if configuration and section == "defaults" and (key in LIBRARIES or key.endswith(PLUGINS)):
            yield from _directories(configuration.parent, value)


def _usual(variable: str, root: Path, environment: Mapping[str, str]) -> list[Path]:
    first = root / "x"  # as if something were installed there, which comes first
    found = settings.paths_before(first, settings.user_settings(root, environment), environment)
    return list(_directories(root, found[variable].partition(":")[2]))


def _directories(base: Path, paths: str) -> Iterator[Path]:
    """The directories of a search path; those that are relative start from ``base``."""
    for path in paths.split(":"):
        if path.strip():
            yield base / Path(os.path.expandvars(path.strip())).expanduser()
