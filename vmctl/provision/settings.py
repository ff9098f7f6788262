"""How ansible-playbook is told to work: vmctl's defaults below the user's own configuration, its rules above it."""

from __future__ import annotations

import configparser
import locale
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from vmctl import process
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
HOME = ("defaults", "home")
SSH_ARGS = ("ssh_connection", "ssh_args")
LEAST_FORKS = 5  # Ansible's own default
MOST_FORKS = 50
UserSettings = Mapping[tuple[str, str], str]
"""Section and key of a setting → its value."""

SEARCH_PATHS = {
    "ANSIBLE_ROLES_PATH": (
        "roles", ("roles_path",),
        "{home}/roles:/usr/share/ansible/roles:/etc/ansible/roles",
    ),
    "ANSIBLE_COLLECTIONS_PATH": (
        "collections", ("collections_path", "collections_paths"),
        "{home}/collections:/usr/share/ansible/collections",
    ),
}  # fmt: skip
"""Environment variable → directory of ours, names of the same setting in ansible.cfg, and Ansible's own default."""
LOCALE_VARIABLES = ("LC_ALL", "LC_CTYPE", "LANG")
USUAL_LOCALES = ("C.UTF-8", "C.utf8", "en_US.UTF-8")
"""The first has been part of glibc and musl for years."""
LIBRARIES = ("library", "module_utils")
PLUGINS = "_plugins"
USUAL_PLUGINS = "/usr/share/ansible/plugins"
SECOND_NAME = "ANSIBLE_COLLECTIONS_PATHS"
"""What ANSIBLE_COLLECTIONS_PATH was called, which Ansible obeys up to 2.18."""


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
    theirs = user_settings(directory, in_force)
    defaults = {name: value for name, (where, value) in DEFAULTS.items() if where not in theirs}
    if ("defaults", "forks") not in theirs:
        defaults["ANSIBLE_FORKS"] = str(min(MOST_FORKS, max(LEAST_FORKS, hosts)))
    usual = in_force.get("ANSIBLE_SSH_ARGS") or theirs.get(SSH_ARGS) or DEFAULTS["ANSIBLE_SSH_ARGS"][1]
    rules = {
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_SSH_ARGS": f"{shlex.join(server_options.words(server_options.UNATTENDED))} {usual}",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_FORCE_COLOR" if color else "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NOCOWS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    if content:
        rules |= paths_before(content, theirs, in_force)
    defaults = {name: value for name, value in defaults.items() if name not in in_force}
    return defaults | utf8_locale(os.environ) | dict(own) | rules


def configuration_file(directory: Path, environment: Mapping[str, str]) -> Path | None:
    """The ansible.cfg that an ansible-playbook in ``directory`` obeys."""
    named = environment.get("ANSIBLE_CONFIG")
    home = Path(environment.get("HOME", "/"))
    usual = [directory / "ansible.cfg", home / ".ansible.cfg", Path("/etc/ansible/ansible.cfg")]
    own = directory / Path(os.path.expandvars(named)).expanduser() if named else None
    candidates = [own / "ansible.cfg" if own.is_dir() else own, *usual] if own else usual
    return next((path for path in candidates if path.is_file()), None)


def user_settings(directory: Path, environment: Mapping[str, str]) -> UserSettings:
    """The settings in force. An ansible.cfg that cannot be read is Ansible's to report."""
    in_force = configuration_file(directory, environment)
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",), strict=False)
    try:
        if in_force:
            parser.read_string(in_force.read_text(encoding="utf-8"))
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}
    found = {(section, key): value for section in parser.sections() for key, value in parser[section].items()}
    for key in [HOME[1], *(key for _, keys, _ in SEARCH_PATHS.values() for key in keys)]:
        if in_force and ("defaults", key) in found:
            found["defaults", key] = _from(in_force.parent, found["defaults", key])
    return found


def ansible_home(settings: UserSettings, environment: Mapping[str, str]) -> str:
    """The directory below which Ansible looks for what nothing else names."""
    wanted = environment.get("ANSIBLE_HOME") or settings.get(HOME)
    return wanted or f"{environment.get('HOME', '/')}/.ansible"


def _from(base: Path, paths: str) -> str:
    """Search paths of an ansible.cfg, which start from its directory."""
    return ":".join(str(base / Path(os.path.expandvars(path.strip())).expanduser()) for path in paths.split(":"))


def paths_before(content: Path, settings: UserSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """Ansible's search paths, with those of ``content`` first."""
    found, home = {}, ansible_home(settings, environment)
    for variable, (ours, keys, default) in SEARCH_PATHS.items():
        configured = next((settings["defaults", key] for key in keys if ("defaults", key) in settings), "")
        usual = environment.get(variable) or configured or default.format(home=home)
        found[variable] = f"{content / ours}:{usual}"
    return found


def utf8_locale(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add so that Ansible starts: it refuses a locale that is not installed, or is not UTF-8.

    None, where it starts already.

    Where no UTF-8 locale is installed, none either: then it is for Ansible to say so.
    """
    before = locale.setlocale(locale.LC_ALL)
    try:
        if _locale_works(""):
            return {}
        found = next((name for name in _locales_to_try(environment) if _locale_works(name)), "")
    finally:
        locale.setlocale(locale.LC_ALL, before)
    return {"LC_ALL": found} if found else {}


def _locales_to_try(environment: Mapping[str, str]) -> Iterator[str]:
    """The user's language first, as far as it has a name."""
    for variable in LOCALE_VARIABLES:
        name = environment.get(variable, "").partition("@")[0].partition(".")[0]
        if "_" in name:
            yield f"{name}.UTF-8"
    yield from USUAL_LOCALES


def _locale_works(name: str) -> bool:
    """As Ansible looks itself; "" = what the environment says."""
    try:
        locale.setlocale(locale.LC_ALL, name)
        encoding = locale.getlocale()[1]
    except (locale.Error, ValueError):  # ValueError: a name that Python cannot take apart
        return False
    return (encoding or "").lower().replace("-", "") == "utf8"


def names_plugins(variable: str) -> bool:
    """Whether a variable of Ansible's names directories of plug-ins or modules."""
    setting = variable.removeprefix("ANSIBLE_").lower()
    return variable.startswith("ANSIBLE_") and (setting in LIBRARIES or setting.endswith(PLUGINS))


def role_directories(root: Path, environment: Mapping[str, str]) -> list[Path]:
    """The directories that hold roles, in Ansible's order."""
    return _usual_directories("ANSIBLE_ROLES_PATH", root, environment)


def collection_directories(root: Path, environment: Mapping[str, str]) -> list[Path]:
    """The directories that hold `ansible_collections`, in Ansible's order."""
    further = environment.get(SECOND_NAME, "")
    return [*_directories(root, further), *_usual_directories("ANSIBLE_COLLECTIONS_PATH", root, environment)]


def plugin_directories(root: Path, environment: Mapping[str, str]) -> list[Path]:
    """The directories that hold plug-ins and modules, whichever kind."""
    own = ansible_home(user_settings(root, environment), environment)
    return [*_named_directories(root, environment), *_directories(root, f"{own}/plugins:{USUAL_PLUGINS}")]


def _named_directories(root: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    for variable, value in sorted(environment.items()):
        if names_plugins(variable):
            yield from _directories(root, value)
    configuration = configuration_file(root, environment)
    for (section, key), value in sorted(user_settings(root, environment).items()):
        if configuration and section == "defaults" and (key in LIBRARIES or key.endswith(PLUGINS)):
            yield from _directories(configuration.parent, value)


def _usual_directories(variable: str, root: Path, environment: Mapping[str, str]) -> list[Path]:
    first = root / "x"  # as if something were installed there, which comes first
    found = paths_before(first, user_settings(root, environment), environment)
    return list(_directories(root, found[variable].partition(":")[2]))


def _directories(base: Path, paths: str) -> Iterator[Path]:
    """The directories of a search path; those that are relative start from ``base``."""
    for path in paths.split(":"):
        if path.strip():
            yield base / Path(os.path.expandvars(path.strip())).expanduser()
