"""What people wrote for a playbook: the files that are looked through, and those that their words name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl.provision import (
    arguments,
    file_templates,
    inputs,
    playbook_data,
    playbook_places,
    playbook_tasks,
    settings,
)  # fmt: skip
from vmctl.provision.playbook_data import UNKNOWN, Variables
from vmctl.provision.playbook_places import TooMany
from vmctl.provisioners import Ansible

READABLE = 1024 * 1024  # bytes; what is larger was not written by hand
TEXTS = (".yml", ".yaml", ".j2", ".jinja", ".jinja2", ".json", ".sh", ".tmpl", ".conf")
PROGRAMS = ("", ".sh", ".bash")
DATA = (".yml", ".yaml", ".json")
OF_VARIABLES = frozenset({"group_vars", "host_vars", "vars", "defaults"})
"""Directories whose files are YAML even without an ending."""
NO_TASKS = frozenset({"templates", "files", "tests", "molecule", "docs", "changelogs"})
QUALIFIED = re.compile(r"(\w+)\.(\w+)\.(\w+)")
WORD = re.compile(r"[\w.+/@-]+")
BELOW = "below"
"""Of a file: it lies where others are read; what it is called tells what is made of it."""
ROLE_PARTS = ("tasks", "handlers", "defaults", "vars", "meta", "templates", "files")


class Text(Struct, frozen=True, kw_only=True):
    """One file, or what stands for one."""

    name: str
    text: str
    path: Path | None = None
    data: Any = None
    """The documents of a YAML file."""
    is_whole: bool = True
    """Whether all of it was read."""
    is_data: bool = True
    """Whether it is YAML, or is not meant to be."""

    @property
    def is_script(self) -> bool:
        """Whether it is a program by itself."""
        return self.text.startswith("#!") or Path(self.name.removesuffix(".j2")).suffix == ".sh"


class PlaybookTexts(Struct, frozen=True, kw_only=True):
    """All that was written for a playbook."""

    texts: tuple[Text, ...] = ()
    named: tuple[Path, ...] = ()
    """Files that words name and that are no inputs by themselves; wherever they are."""
    variables: Variables
    roles: tuple[Path, ...] = ()
    """The roles that it may use from outside of the project."""
    is_bounded: bool = True
    """Whether the files that its expressions may name are few enough to be looked at."""


def read(path: Path, name: str, *, is_data: bool = False) -> Text:
    """A file's text; "" where it cannot be read."""
    try:
        with path.open("rb") as stream:
            content = stream.read(READABLE + 1)
    except OSError:
        content = b""
    text, is_whole = content[:READABLE].decode(errors="replace"), len(content) <= READABLE
    data = playbook_data.parsed(text) if is_data and is_whole else None
    return Text(
        name=name, text=text, path=path, data=data, is_whole=is_whole,
        is_data=data is not None or not is_data or not is_whole or path.suffix == ".json",
    )  # fmt: skip


def written(item: Ansible, root: Path | None = None) -> PlaybookTexts:
    """What was written for a playbook.

    Args:
        item: the provisioner.
        root: where Ansible would run; None = in the playbook's directory.
    """
    reader = _PlaybookReader(item, root)
    is_bounded = True
    try:
        reader.read(path for path in reader.known if path != item.requirements and path.name not in inputs.SINGLE_FILES)
    except TooMany:
        is_bounded = False
    return PlaybookTexts(
        texts=tuple(reader.texts), named=tuple(reader.named), roles=tuple(reader.roles), is_bounded=is_bounded,
        variables=reader.variables,
    )  # fmt: skip


class _PlaybookReader:
    """Reads files of a playbook, and those that they name, until they name no more."""

    def __init__(self, item: Ansible, root: Path | None) -> None:
        self.beside = item.playbook.parent
        self.root = root or self.beside
        self.environment = {**os.environ, **arguments.environment(item)}
        self.known = dict.fromkeys(inputs.ansible_files(item))
        self.named: dict[Path, None] = {}
        self.roles: list[Path] = []
        self.sources = dict.fromkeys((*item.playbooks, *item.extra_vars_files), playbook_tasks.DATA)
        self.looked_through: set[Path] = set()
        values = [item.extra_vars, item.group_vars, item.host_vars]
        text: Any = inputs.canonical(values)
        self.texts = [Text(name="its variables", text=json.dumps(text), data=values)]

    @property
    def variables(self) -> Variables:
        """All that the texts set, so far."""
        return Variables.of([one.data for one in self.texts])

    def read(self, paths: Iterable[Path]) -> None:
        """Read some files, and what follows from them.

        Raises:
            TooMany: an expression may name more files than can be looked at.
        """
        waiting = [*paths]
        while waiting:
            waiting = self._read(waiting)
        # Only now is it known what every name may come to: a file read last may set a variable of the first.
        variables = self.variables
        names = [(name, one.path) for one in self.texts if one.path for name in _names(one, variables)]
        around = playbook_places.around(names, self.beside)
        self.named |= dict.fromkeys(path for path in around if path not in self.named and path not in self.known)

    def _read(self, paths: Sequence[Path]) -> list[Path]:
        """Read some files; those that they name and that are to be read as well."""
        new = [one for path in paths if (one := _text(path, self.beside, self.sources.get(path, "")))]
        self.texts += new
        self.looked_through |= {one.path for one in new if one.path}
        waiting: list[Path] = []
        for role in _roles(new, self.root, self.environment):
            if role not in self.roles:
                self.roles.append(role)
                waiting += [file for part in ROLE_PARTS for file in inputs.written_below(role / part)]
        for path, how in _named(new, self.variables, self.beside):
            is_new = path not in self.named and path not in self.known
            if is_new:
                self.named[path] = None
            is_unread = how not in {"", BELOW} and path not in self.looked_through
            if is_unread:
                self.sources[path] = how
                self.looked_through.add(path)
            if is_unread or (how and is_new):
                waiting.append(path)
        return waiting


def _text(path: Path, beside: Path, how: str) -> Text | None:
    """A file that may hold expressions or is a program; None = it is neither. ``how`` = what Ansible makes of it."""
    is_source = how in {playbook_tasks.DATA, playbook_tasks.PLAYBOOK}
    inside = Path(os.path.relpath(path, beside))
    parts = set(inside.parts[:-1])
    is_data = path.suffix in DATA or (not path.suffix and bool(parts & OF_VARIABLES)) or is_source
    is_text = is_data or how == playbook_tasks.TEXT or path.suffix in TEXTS or "templates" in parts
    name = path.name if str(inside).startswith("..") else str(inside)
    if not is_text and not _is_program(path):
        return None
    is_data = is_data and (is_source or not (parts & NO_TASKS or path.name.startswith(".")))
    return read(path, name, is_data=is_data)


def _is_program(path: Path) -> bool:
    if path.suffix not in PROGRAMS:
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(2) == b"#!"
    except OSError:
        return False


def _names(one: Text, variables: Variables) -> dict[str, str]:
    """The files of this host that a text names as sources, and what Ansible makes of each of them."""
    found = dict(playbook_tasks.names(one.data, variables))
    for name in file_templates.includes(one.text):
        found.setdefault(UNKNOWN if name is None else name, playbook_tasks.TEXT)
    return found


def _named(new: Sequence[Text], variables: Variables, beside: Path) -> Iterator[tuple[Path, str]]:
    """Files that words name, wherever Ansible looks for them; directories as a whole.

    And what is to be looked for in them: what ``playbook_tasks.names`` says.
    """
    for one in new:
        if one.path is None:
            continue
        places = playbook_places.searched(one.path, beside)
        is_data = one.data is not None or one.path.suffix in inputs.YAML
        words = {word for word in WORD.findall(one.text) if "/" in word or "." in word.strip(".")} if is_data else ()
        found = [(file, "") for word in words for place in playbook_places.mentioned(word, places)
                 for file in inputs.written_below(place)]  # fmt: skip
        for name, how in sorted(_names(one, variables).items()):
            for place in playbook_places.named(name, places):
                around = inputs.playbook_files(place, exact=True) if how == playbook_tasks.PLAYBOOK else ()
                files = dict.fromkeys([*playbook_places.put_below(place), *around])
                found += [(file, how if file == place or not how else BELOW) for file in files]
        for file, how in sorted(found, key=lambda pair: (pair[0], not pair[1])):
            yield file, how or (BELOW if _is_program(file) else "")


def _roles(new: Sequence[Text], root: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """Roles of the search paths that texts name; all of them that an expression might."""
    words = {word for one in new if one.data is not None for word in playbook_data.scalars(one.data)}
    words |= {value for word in words for value in playbook_data.pairs(word).values()}
    is_any = any("{{" in str(word) for one in new for word in _role_names(one.data))
    for directory in settings.role_directories(root, environment):
        for role in inputs.entries(directory):
            if role.is_dir() and (is_any or role.name in words):
                yield role
    for directory in settings.collection_directories(root, environment):
        for full_name in filter(None, map(QUALIFIED.fullmatch, sorted(words))):
            path = directory.joinpath("ansible_collections", full_name[1], full_name[2], "roles", full_name[3])
            if path.is_dir():
                yield path


def _role_names(data: Any) -> Iterator[str]:
    for task in playbook_data.mappings(data):
        for key, value in task.items():
            if str(key).rpartition(".")[2] in {"roles", "import_role", "include_role", "dependencies"}:
                yield from playbook_tasks.named_by("roles", value, task)
