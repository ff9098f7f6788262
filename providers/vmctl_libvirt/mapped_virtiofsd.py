"""Run virtiofsd where two users have changed places: the owner of the folder on the host, and the login user.

    python -IS mapped_virtiofsd.py GUEST-UID:HOST-UID GUEST-GID:HOST-GID VIRTIOFSD [ARGUMENT...]

virtiofsd acts with the numbers that the guest's processes have. In a user namespace in which GUEST-UID means the
host's HOST-UID, the login user owns the folder's files, and files that it makes belong to the folder's owner on the
host. Every other number means itself, but for those that make room (see ``exceptions``).

libvirt starts this as root, in place of virtiofsd; it becomes virtiofsd, with the same process id and open files.
Standard library only: it runs without vmctl's packages.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

CLONE_NEWUSER = 0x10000000
LAST_ID = 2**32 - 2
ROOT = 0
NOBODY = 65534
OPEN_FILES = 1_000_000
"""What virtiofsd asks for; inside the namespace it may no longer ask."""

Row = tuple[int, int, int]


def exceptions(guest: int, host: int) -> dict[int, int]:
    """Ids inside that mean others outside: ``guest`` means ``host``, and whoever that pushes away makes room in turn.

    Where root owns the folder, the guest's root becomes the host's nobody, rather than a person with an account.
    """
    if guest == host:
        return {}
    if host == ROOT and guest != NOBODY:
        return {guest: ROOT, ROOT: NOBODY, NOBODY: guest}
    return {guest: host, host: guest}


def id_map(changed: dict[int, int]) -> list[Row]:
    """Rows (first id inside, first id outside, count) for all ids: those of ``changed``, and the rest as they are."""
    rows, start = [], 0
    for inside in sorted(changed):
        rows += [(start, start, inside - start), (inside, changed[inside], 1)]
        start = inside + 1
    rows.append((start, start, LAST_ID + 1 - start))
    return [row for row in rows if row[2] > 0]


def main(arguments: Sequence[str]) -> None:
    """Enter the namespace, become virtiofsd."""
    users, groups, program, *rest = arguments
    _allow_open_files()
    _enter(id_map(exceptions(*_pair(users))), id_map(exceptions(*_pair(groups))))
    os.execv(program, [program, *rest])  # noqa: S606  this is what the program is for


def _pair(text: str) -> tuple[int, int]:
    guest, _, host = text.partition(":")
    return int(guest), int(host)


def _allow_open_files() -> None:
    limit = min(OPEN_FILES, int(Path("/proc/sys/fs/nr_open").read_text(encoding="ascii")))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < limit:
        with suppress(ValueError, OSError):  # a root without CAP_SYS_RESOURCE; virtiofsd does with less
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _enter(users: Sequence[Row], groups: Sequence[Row]) -> None:
    """Move this process into a new user namespace, as its root.

    Only a process outside may write a map of many rows, so a child that stays outside does it.
    """
    reader, writer = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(writer)
        os._exit(_write_maps(reader, os.getppid(), users, groups))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    os.write(writer, b".")
    os.close(writer)
    os.close(reader)
    _, status = os.waitpid(helper, 0)
    if status != 0:
        sys.exit("the id maps can not be written")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _write_maps(reader: int, process: int, users: Sequence[Row], groups: Sequence[Row]) -> int:
    if os.read(reader, 1) != b".":
        return 1
    for name, rows in (("uid_map", users), ("gid_map", groups)):
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in rows)
        Path(f"/proc/{process}/{name}").write_text(text, encoding="ascii")
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
