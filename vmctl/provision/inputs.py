"""The digest of everything that goes into a provisioner: when it changes, the next `up` runs the provisioner again.

Of a script: its bytes (a URL's checksum), arguments, environment and become. Of a file or directory: its content, what
a template includes, and where and how it is put. Of a playbook: its options, files of variables, configuration,
inventories, the requirements and what they name on this host, and these files:

- the YAML files in the playbook's own directory;
- everything in the directories that Ansible looks for beside a playbook (``ROLES_AND_SUCH``), ``ansible.cfg`` and
  ``requirements.yml``; beside the playbook and in each directory above it, up to the project's.

Of any of them: what its ``inputs`` name.

A file counts with its path, its content and whether it is executable; one larger than ``LARGE`` with its size and
modification time instead of its content, so that a look costs milliseconds. Links are followed. What a playbook
reads from anywhere else is not noticed: `vmctl provision` runs it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vmctl.errors import UsageError, VmctlError
from vmctl.layout import PROJECT_DIRECTORY, VMFILE
from vmctl.provision import copyable, file_templates, requirements
from vmctl.spec import Ansible, File, Provisioner, Reboot, Shell

LARGE = 1024 * 1024  # bytes
ROLES_AND_SUCH = (
    "action_plugins", "become_plugins", "cache_plugins", "callback_plugins", "collections", "connection_plugins",
    "doc_fragments", "files", "filter_plugins", "group_vars", "handlers", "host_vars", "inventory_plugins", "library",
    "lookup_plugins", "module_utils", "plugins", "roles", "shell_plugins", "strategy_plugins", "tasks", "templates",
    "test_plugins", "vars", "vars_plugins",
)  # fmt: skip
SINGLE_FILES = ("ansible.cfg", "requirements.yml", "requirements.yaml")
YAML = (".yml", ".yaml")
OURS = frozenset({PROJECT_DIRECTORY, "__pycache__"})
"""What vmctl and Python leave beside what people write."""
HISTORY = frozenset({".git", ".hg", ".svn"})
IGNORED = OURS | HISTORY | {"node_modules"}
STATE_OF_GIT = ("HEAD", "config", "packed-refs", "refs")
"""What of a repository says which commit is checked out; the rest is there, or changes by looking at it."""
PROJECT_MARKS = (VMFILE, PROJECT_DIRECTORY, ".git")
EXECUTABLE = 0o111


def digest(provisioner: Provisioner, *, exact: bool = False) -> str:
    """Lower-case hex SHA-256 of all that goes into a provisioner. Never raises for a file that is not there.

    ``exact``: large files count with their content as well, whatever that costs.
    """
    base = Path()
    match provisioner:
        case Shell():
            content: list[Any] = ["shell", *_shell(provisioner)]
            files = [provisioner.script] if provisioner.script else []
            base = provisioner.script.parent if provisioner.script else base
        case File():
            content = ["file", *_file(provisioner)]
            files = [*_sources(provisioner.source), *_included(provisioner)]
            base = provisioner.source if provisioner.source.is_dir() else provisioner.source.parent
        case Reboot():
            content, files = ["reboot"], []
        case Ansible():
            content = ["ansible", *_options(provisioner)]
            files, base = list(ansible_files(provisioner, exact=exact)), provisioner.playbook.parent
    if provisioner.inputs is not None:
        content.append(["inputs", *_further(provisioner.inputs, exact=exact)])
    return total(content, files, base, exact=exact)


def _further(several: Sequence[Path], *, exact: bool) -> list[str]:
    """Digests of what an entry names besides, in whatever order it does."""
    above = Path(os.path.commonpath([one.parent for one in several])) if several else Path()
    return sorted(total([], list(written_below(one)), above, exact=exact) for one in several)


def _sources(source: Path) -> list[Path]:
    try:
        return copyable.contents(source).files
    except VmctlError:
        return []  # told when it is to be put


def _included(item: File) -> list[Path]:
    """The files that a template includes, and those beside it that it may include, where an expression says which.

    A template knows those in its directory; in a directory of templates, they all count as it is.
    """
    if not item.template or item.source.is_dir():
        return []
    found = file_templates.included(item.source)
    known = {item.source, *found.files}
    around = written_below(item.source.parent) if found.is_open else ()
    return [*found.files, *(path for path in around if path not in known)]


def template_mentions(item: File, word: str) -> bool:
    """Whether a template, or what it includes, may have a word."""
    for path in [*_sources(item.source), *_included(item)]:
        try:
            if word.encode() in path.read_bytes():
                return True
        except OSError:
            continue  # told when it is to be put
    return False


def total(content: Any, files: Sequence[Path] = (), base: Path = Path(), *, exact: bool = False) -> str:
    """Lower-case hex SHA-256 of values and files; these count with their place as seen from ``base``."""
    found = hashlib.sha256()
    found.update(json.dumps(canonical(content)).encode())
    for path in files:
        found.update(json.dumps([os.path.relpath(path, base), *_fingerprint(path, exact=exact)]).encode())
    return found.hexdigest()


def _shell(item: Shell) -> list[Any]:
    return [item.inline, item.url, item.checksum, item.args, item.env, item.become, item.on, item.creates]


def _file(item: File) -> list[Any]:
    options = [item.destination, item.mode, item.owner, item.group, item.become, item.template, item.variables]
    return [*options, "directory"] if item.source.is_dir() else options


def _options(item: Ansible) -> list[Any]:
    """What changes what a playbook does; how it is done and told (forks, verbosity, passwords) does not count."""
    return [
        item.mode, item.groups, item.group_vars, item.host_vars, item.extra_vars, item.limit, item.tags,
        item.skip_tags, item.start_at_task, item.become, item.become_user, item.check, item.raw_arguments, item.env,
    ]  # fmt: skip


def ansible_files(item: Ansible, *, exact: bool = False) -> Iterator[Path]:
    """Every file that counts as an input of an `ansible` entry; ``exact``: all that it may put anywhere as well."""
    for book in item.playbooks:
        yield from playbook_files(book, exact=exact)
    yield from item.extra_vars_files
    if item.config_file:
        yield item.config_file
    seen: set[str] = set()
    for source in item.inventory:
        yield from _tree(source, seen)
    if item.requirements:
        yield from _required(item.requirements)


def requirements_digest(file: Path) -> str:
    """Lower-case hex SHA-256 of a requirements file and of what it names on this host."""
    return total(["requirements"], list(_required(file)), file.parent)


def _required(file: Path) -> Iterator[Path]:
    yield file
    try:
        wanted = requirements.read(file)
    except UsageError:
        return  # told when it is installed
    for path in wanted.local():
        yield from put_below(path, OURS | HISTORY)


def canonical(value: Any) -> Any:
    """``value`` as JSON data that is the same for the same content: mappings become sorted pairs."""
    if isinstance(value, dict) or hasattr(value, "items"):
        pairs = [[canonical(key), canonical(item)] for key, item in value.items()]
        return {"map": sorted(pairs, key=json.dumps)}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return [type(value).__name__, str(value)]


def _fingerprint(path: Path, *, exact: bool) -> list[Any]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return ["no file"]
        executable = bool(status.st_mode & EXECUTABLE)
        if exact:
            with path.open("rb") as stream:
                return [executable, hashlib.file_digest(stream, "sha256").hexdigest()]
        if status.st_size > LARGE:
            return [executable, status.st_size, status.st_mtime_ns]
        return [executable, hashlib.sha256(path.read_bytes()).hexdigest()]
    except OSError as error:
        return [error.errno]


def playbook_files(playbook: Path, *, exact: bool = False) -> Iterator[Path]:
    """The playbook and the files that count as its inputs, in a fixed order."""
    yield playbook
    beside = playbook.parent
    yield from (path for path in entries(beside) if path.suffix in YAML and path != playbook and not path.is_dir())
    seen: set[str] = set()
    for directory in _up_to_project(beside):
        yield from (directory / name for name in SINGLE_FILES if (directory / name).is_file())
        for name in ROLES_AND_SUCH:
            yield from put_below(directory / name, OURS | HISTORY) if exact else _tree(directory / name, seen)


def _up_to_project(directory: Path) -> list[Path]:
    """The directory and those above it up to the project's; without one, the directory alone."""
    upward = [directory, *directory.parents]
    for index, candidate in enumerate(upward):
        if any((candidate / mark).exists() for mark in PROJECT_MARKS):
            return upward[: index + 1]
    return [directory]


def entries(directory: Path) -> list[Path]:
    """What is in a directory, in a fixed order; nothing where it cannot be read."""
    try:
        return sorted(directory / entry.name for entry in os.scandir(directory))
    except OSError:
        return []


def everything_below(path: Path) -> Iterator[Path]:
    """All files below a directory, or the file itself, in a fixed order; links are followed."""
    return _tree(path, set(), ignored=frozenset())


def written_below(path: Path) -> Iterator[Path]:
    """As ``everything_below``, without what programs leave there by themselves (``IGNORED``)."""
    return _tree(path, set())


def put_below(path: Path, ignored: frozenset[str] = OURS) -> Iterator[Path]:
    """All that gets elsewhere where a path is put there as a whole, empty directories as well; links are followed."""
    yield from _put(path, ignored, ())


def _put(path: Path, ignored: frozenset[str], above: tuple[str, ...]) -> Iterator[Path]:
    if path.name in ignored or path.suffix == ".pyc":
        return
    if not path.is_dir():
        yield from [path] if path.is_file() else ()
        return
    real = os.path.realpath(path)
    if real in above:
        return
    below = [path / name for name in STATE_OF_GIT] if path.name == ".git" else entries(path)
    yield from () if below else [path]
    for entry in below:
        yield from _put(entry, ignored, (*above, real))


def _tree(path: Path, seen: set[str], ignored: frozenset[str] = IGNORED) -> Iterator[Path]:
    """All files below a directory; each directory once, however links lead to it."""
    if path.name in ignored or (ignored and path.suffix == ".pyc"):
        return
    if not path.is_dir():
        if path.is_file():  # a link that leads nowhere is some editor's lock: it comes and goes
            yield path
        return
    real = os.path.realpath(path)
    if real not in seen:
        seen.add(real)
        for entry in entries(path):
            yield from _tree(entry, seen, ignored)
