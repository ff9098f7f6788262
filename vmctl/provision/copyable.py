"""What of a directory can be put elsewhere: its files, wherever links lead; and what cannot, with the reason.

Editors, agents and servers leave dangling links (Emacs' locks), sockets and pipes beside the files that are meant.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vmctl.errors import VmctlError, in_words

NOWHERE = "a link that leads nowhere"
CIRCLE = "a link to a directory that it is in"
NO_FILE = "neither a file nor a directory"


@dataclass
class Copyable:
    """The files below a directory in a fixed order, and what was left out."""

    files: list[Path] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)
    """Path → why."""


def contents(source: Path) -> Copyable:
    """All that is below a directory, or the file itself; links are followed.

    Raises:
        VmctlError: a directory cannot be read.
    """
    found = Copyable()
    try:
        _add(source, (), found)
    except OSError as error:
        raise VmctlError(f"{error.filename or source} cannot be read", details=in_words(error)) from error
    return found


def _add(path: Path, above: tuple[str, ...], found: Copyable) -> None:
    if path.is_dir():
        real = os.path.realpath(path)
        if real in above:
            found.skipped[path] = CIRCLE
            return
        for entry in sorted(path / entry.name for entry in os.scandir(path)):
            _add(entry, (*above, real), found)
    elif path.is_file():
        found.files.append(path)
    else:
        found.skipped[path] = NO_FILE if path.exists() else NOWHERE


@contextlib.contextmanager
def copyable(source: Path) -> Iterator[tuple[Path, Copyable]]:
    """A path of the same name that a program can copy as a whole, which follows links; and what it lacks.

    That is the source itself, as long as all of it can be copied, else a tree of links to what can.

    Raises:
        VmctlError: a directory cannot be read, or the source itself is none and no file.
    """
    found = contents(source)
    if source in found.skipped:
        raise VmctlError(f"{source} is {found.skipped[source]}")
    if not found.skipped:
        yield source, found
        return
    with tempfile.TemporaryDirectory(prefix="vmctl-") as place:
        tree = Path(place, source.resolve().name or "root")
        _mirror(source, tree, found.skipped.keys())
        yield tree, found


def _mirror(source: Path, tree: Path, without: Collection[Path]) -> None:
    tree.mkdir()
    for entry in (source / entry.name for entry in os.scandir(source)):
        if entry in without:
            continue
        if entry.is_dir():
            _mirror(entry, tree / entry.name, without)
        else:
            (tree / entry.name).symlink_to(entry.absolute())
    shutil.copystat(source, tree)
