"""Emptying directories of any depth. Links are removed, never followed.

What is further down is first moved up: no call of its own for each level, no long path, and never more than two open
directories. A tree that is left half removed can be removed by another call.
"""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import suppress


def empty(top: int) -> None:
    """Remove everything in the directory that ``top`` is open on.

    Raises:
        OSError: something in it may not be removed.
    """
    mark = os.urandom(8).hex()
    fresh = (f".{mark}-{number}" for number in itertools.count())
    waiting = _unlinked(top)
    while waiting:
        name = waiting.pop()
        if _gone(top, name):
            continue
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
        try:
            for child in _unlinked(inner):
                if not _gone(inner, child):
                    up = next(fresh)
                    os.rename(child, up, src_dir_fd=inner, dst_dir_fd=top)
                    waiting.append(up)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)


def _unlinked(directory: int) -> list[str]:
    """Remove what is not a directory; the names of the directories."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
    return [name for name, is_directory in found if is_directory]


def _gone(directory: int, name: str) -> bool:
    """Whether the directory ``name`` is not there any more; an empty one is removed."""
    try:
        os.rmdir(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
