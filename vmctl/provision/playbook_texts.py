"""What people wrote for a playbook: the files that are looked through, and those that their words name."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl.provision import arguments, inputs, playbook_data, playbook_tasks, settings
from vmctl.provision.playbook_data import UNKNOWN, Variables
from vmctl.provisioners import Ansible

READABLE = 1024 * 1024  # bytes; what is larger was not written by hand
MOST_FILES = 5000
"""What an expression may name in the playbook's directory; more is not read at each `up`."""
MOST_WALKED = 50_000
"""What is looked at for that."""
TEXTS = (".yml", ".yaml", ".j2", ".jinja", ".jinja2", ".json", ".sh", ".tmpl", ".conf")
PROGRAMS = ("", ".sh", ".bash")
DATA = (".yml", ".yaml", ".json")
OF_VARIABLES = frozenset({"group_vars", "host_vars", "vars", "defaults"})
"""Directories whose files are YAML even without an ending."""
NO_TASKS = frozenset({"templates", "files", "tests", "molecule", "docs", "changelogs"})
QUALIFIED = re.compile(r"(\w+)\.(\w+)\.(\w+)")
WORD = re.compile(r"[\w.+/@-]+")
ROLE_PARTS = ("tasks", "handlers", "defaults", "vars", "meta", "templates", "files")
LONGEST = 255  # characters of a name


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
    environment = {**os.environ, **arguments.environment(item)}
    beside, known = item.playbook.parent, list(dict.fromkeys(inputs.ansible_files(item)))
    variables: Any = inputs.canonical([item.extra_vars, item.group_vars, item.host_vars])
    own = Text(
        name="its variables", text=json.dumps(variables), data=[item.extra_vars, item.group_vars, item.host_vars]
    )
    found, named, roles = [own], dict[Path, None](), list[Path]()
    waiting = [path for path in known if path != item.requirements and path.name not in inputs.SINGLE_FILES]
    sources = {*item.playbooks, *item.extra_vars_files}
    while waiting:
        new = [one for path in waiting if (one := _text(path, beside, is_source=path in sources))]
        found += new
        variables = Variables.of([one.data for one in found])
        waiting = []
        for role in _roles(new, root or beside, environment):
            if role not in roles:
                roles.append(role)
                waiting += [file for part in ROLE_PARTS for file in inputs.written_below(role / part)]
        for path, is_read in _named(new, variables, beside, [*named, *known]):
            named[path] = None
            waiting += [path] if is_read else []
    around, is_bounded = _around(found, Variables.of([one.data for one in found]), beside)
    files = [*named, *(path for path in around if path not in named and path not in known)]
    return PlaybookTexts(
        texts=tuple(found), named=tuple(files), roles=tuple(roles), is_bounded=is_bounded,
        variables=Variables.of([one.data for one in found]),
    )  # fmt: skip


def _text(path: Path, beside: Path, *, is_source: bool) -> Text | None:
    """A file that may hold expressions or is a program; None = it is neither."""
    inside = Path(os.path.relpath(path, beside))
    parts = set(inside.parts[:-1])
    is_data = path.suffix in DATA or (not path.suffix and bool(parts & OF_VARIABLES)) or is_source
    is_text = is_data or path.suffix in TEXTS or "templates" in parts
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


def _named(
    new: Sequence[Text], variables: Variables, beside: Path, known: Sequence[Path]
) -> Iterator[tuple[Path, bool]]:
    """Files that words name: beside the playbook, or beside the file that has the word; directories as a whole.

    And whether they are to be looked through as well.
    """
    seen = set(known)
    for one in new:
        if one.path is None or one.path.suffix not in inputs.YAML:
            continue
        words = {word: False for word in WORD.findall(one.text) if "/" in word or "." in word.strip(".")}
        for word, is_read in playbook_tasks.names(one.data, variables):
            words[word] = words.get(word, False) or is_read
        for word, is_read in sorted(words.items()):
            for place in _existing(word, (one.path.parent, beside)):
                for file in inputs.written_below(place):
                    if file not in seen:
                        seen.add(file)
                        yield file, is_read or (file == place and _is_program(file))


def _existing(word: str, places: Sequence[Path]) -> Iterator[Path]:
    if word.startswith("/") or not word.strip("./") or UNKNOWN in word or len(word) > LONGEST:
        return
    for place in places:
        path = place / word
        try:
            is_there = path.exists()
        except (OSError, ValueError):
            continue
        if is_there and not place.resolve().is_relative_to(path.resolve()):  # never all around it
            yield path


def _around(texts: Sequence[Text], variables: Variables, beside: Path) -> tuple[list[Path], bool]:
    """Files beside the playbook that expressions may name, as far as what is around them tells; whether that is all."""
    ends: dict[str, set[str]] = {}
    for one in texts:
        for name, _ in playbook_tasks.names(one.data, variables):
            start, is_open, _ = name.partition(UNKNOWN)
            if is_open and not start.startswith(("/", "~")):
                ends.setdefault(start, set()).add(name.rpartition(UNKNOWN)[2].rstrip("/"))
    found: dict[Path, None] = {}
    walked = 0
    for start, several in sorted(ends.items()):
        folder, _, first = start.rpartition("/")
        entries = [path for path in inputs.entries(beside / folder) if path.name.startswith(first)]
        is_meant = re.compile(f"(?:{'|'.join(map(re.escape, sorted(several)))})(?:/.*)?$").search
        for path in itertools.chain.from_iterable(inputs.written_below(path) for path in entries):
            walked += 1
            if is_meant(str(path)):
                found[path] = None
            if len(found) > MOST_FILES or walked > MOST_WALKED:
                return [], False
    return list(found), True


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
