"""Being root without being root: a program runs as uid 0 of a user namespace, where files may have any owner."""

from __future__ import annotations

import os
from pathlib import Path

from vmctl import process
from vmctl.store import files


def needs_programs() -> dict[str, str]:
    """Programs that this takes, with their Debian packages; none for root."""
    return {} if os.geteuid() == 0 else {"unshare": "util-linux", "newuidmap": "uidmap"}


def as_root(*argv: str) -> tuple[str, ...]:
    """``argv``, to be run with every owner at its disposal."""
    if os.geteuid() == 0:
        return argv
    return (process.find("unshare"), "--user", "--map-root-user", "--map-auto", "--", *argv)


def discard(path: Path) -> None:
    """Remove a directory, also one with files that belong to the namespace's users."""
    try:
        files.remove_tree(path)
    except PermissionError:
        process.run(as_root("rm", "-rf", "--one-file-system", "--", str(path)))
