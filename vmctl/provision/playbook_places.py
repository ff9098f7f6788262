"""Where Ansible looks for the files that a playbook names, as far as that can be told without running it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vmctl.provision import inputs
from vmctl.provision.playbook_data import UNKNOWN

MOST_FILES = 5000
"""What an expression may name around a playbook; more is not read at each `up`."""
MOST_WALKED = 50_000
"""What is looked at for that."""
SUBDIRECTORIES = ("", "files", "templates", "vars", "tasks")
"""Where a name is looked for, seen from where it is written, by what it is for."""
OF_TASKS = frozenset({"tasks", "handlers"})
"""Directories beside which those are as well."""


class TooMany(Exception):
    """Whatever it is that is named, it is more than can be looked at each time."""


def searched(file: Path, beside: Path) -> list[Path]:
    """The directories that a name in ``file`` may be relative to; ``beside`` = the playbook's own."""
    own = file.parent
    above = [own.parent] if own.name in OF_TASKS else []
    starts = dict.fromkeys([own, *above, beside])
    return [path for start in starts for name in SUBDIRECTORIES if (path := start / name).is_dir()]


def mentioned(word: str, places: Sequence[Path]) -> Iterator[Path]:
    """What a word that looks like a path leads to, unless that is all around it."""
    for place, path in _existing(word, places):
        if word.strip("./") and not place.resolve().is_relative_to(path.resolve()):
            yield path


def named(name: str, places: Sequence[Path]) -> Iterator[Path]:
    """What the name of a source leads to, be it all around the playbook (``src: ../``)."""
    yield from (path for _, path in _existing(name, places))


def _existing(word: str, places: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    if word.startswith(("/", "~")) or not word.strip() or UNKNOWN in word:
        return
    for place in places:
        path = place / word
        try:
            is_there = path.exists()
        except (OSError, ValueError):
            continue  # no name of a file: it is too long
        if is_there:
            yield place, path


def put_below(path: Path) -> list[Path]:
    """All that is put elsewhere with a path.

    Raises:
        TooMany: it is more than can be looked at.
    """
    found = list(itertools.islice(inputs.put_below(path), MOST_WALKED + 1))
    if len(found) > MOST_WALKED:
        raise TooMany
    return found


def around(names: Sequence[tuple[str, Path]], beside: Path) -> list[Path]:
    """The files that names with ``UNKNOWN`` in them may come to, as far as the rest of the name tells.

    Args:
        names: each with the file that it is written in.
        beside: the playbook's directory.

    Raises:
        TooMany: they are more than can be looked at.
    """
    ends: dict[tuple[Path, str], set[str]] = {}
    for name, file in names:
        start, is_open, _ = name.partition(UNKNOWN)
        if is_open and not start.startswith(("/", "~")):
            for place in searched(file, beside):
                ends.setdefault((place, start), set()).add(name.rpartition(UNKNOWN)[2].rstrip("/"))
    found: dict[Path, None] = {}
    walked = 0
    for (place, start), several in sorted(ends.items()):
        folder, _, first = start.rpartition("/")
        entries = [path for path in inputs.entries(place / folder) if path.name.startswith(first)]
        is_meant = re.compile(f"(?:{'|'.join(map(re.escape, sorted(several)))})(?:/.*)?$").search
        for path in itertools.chain.from_iterable(inputs.written_below(path) for path in entries):
            walked += 1
            if is_meant(str(path)):
                found[path] = None
            if len(found) > MOST_FILES or walked > MOST_WALKED:
                raise TooMany
    return list(found)
