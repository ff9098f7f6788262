"""Whose Vmfile is obeyed: what it says runs as the user, so nobody else may have written it.

As git's ``safe.directory``: files of the user, of root and, under sudo, of the user who called it. Besides, nobody else
may be able to write the file or to put another in its place. A user's private group (umask 002) is nobody else.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from vmctl.errors import UsageError
from vmctl.user_environment import expanded

VARIABLE = "VMCTL_SAFE_DIRECTORY"
"""Directories whose files are obeyed all the same, with ``:`` between them; ``*`` = all."""
ROOT = 0


def require(file: Path) -> None:
    """Refuse a file that others than the user and root own or may change; one that is not there is nobody's.

    Raises:
        UsageError: it is so, and ``$VMCTL_SAFE_DIRECTORY`` does not name its directory.
    """
    try:
        real = file.resolve()
        paths = dict.fromkeys((real, real.parent, file.absolute().parent))
        why = next(filter(None, map(_why, paths)), None)
    except (OSError, RuntimeError):  # reading it will tell
        return
    if why and not _is_safe(real.parent):
        brief, hint = why
        trusting = f"export {VARIABLE}={shlex.quote(str(real.parent))}"
        raise UsageError(
            f"{file} is not obeyed: {brief}",
            details=f"A Vmfile runs commands as you. Once you have read this one and trust it: {trusting}",
            hint=hint or trusting,
        )


def _why(path: Path) -> tuple[str, str] | None:
    """Why a file or directory is not trusted, and the command that mends it where there is one."""
    seen = path.stat()
    if seen.st_uid not in _own():
        return f"{path} belongs to {_name(seen.st_uid)}, neither to you nor to root", ""
    if stat.S_ISDIR(seen.st_mode) and seen.st_mode & stat.S_ISVTX:
        return None  # as /tmp: nobody replaces another's file
    if seen.st_mode & stat.S_IWOTH:
        return f"every user may write {path}", f"chmod o-w {shlex.quote(str(path))}"
    if seen.st_mode & stat.S_IWGRP and not _is_private(seen.st_gid, seen.st_uid):
        return f"the group {_group(seen.st_gid)} may write {path}", f"chmod g-w {shlex.quote(str(path))}"
    return None


def _own() -> set[int]:
    """Users whose files are as good as one's own."""
    me = os.geteuid()
    caller = os.environ.get("SUDO_UID", "")
    called = {int(caller)} if me == ROOT and caller.isascii() and caller.isdecimal() else set()
    return {me, ROOT, *called}


def _is_private(gid: int, uid: int) -> bool:
    """Whether a group holds its user alone (or is root's): named like the user, whose primary group it is."""
    import grp
    import pwd

    if gid == ROOT:
        return True
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:  # an account of a container: nobody is in a group without a name
        return gid == os.getegid()
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _name(uid: int) -> str:
    import pwd

    try:
        return f"the user '{pwd.getpwuid(uid).pw_name}'"
    except KeyError:
        return f"the user {uid}"


def _group(gid: int) -> str:
    import grp

    try:
        return f"'{grp.getgrgid(gid).gr_name}'"
    except KeyError:
        return str(gid)


def _is_safe(directory: Path) -> bool:
    trusted = [one for one in os.environ.get(VARIABLE, "").split(os.pathsep) if one]
    return "*" in trusted or any(expanded(one).resolve() == directory for one in trusted)
