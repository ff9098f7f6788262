"""Run virtiofsd where it can do no more on this host than the guest shall.

    python -IS confined_virtiofsd.py [--within=UID-ROWS/GID-ROWS] UIDS GIDS rw|ro VIRTIOFSD [ARGUMENT...]

UIDS and GIDS are GUEST:HOST, or rows of a map (INSIDE-OUTSIDE-COUNT,...).

virtiofsd acts with the numbers that the guest's processes have, and a guest's root can be hostile. So:

- It lives in a user namespace. GUEST-UID means the host's HOST-UID there: the login user owns the folder's files, and
  files that it makes belong to the folder's owner on the host. The guest's root is a nobody on the host, who may do
  anything in the folder but be somebody else outside. The host's root is nobody's number, unless it owns the folder;
  then it is the login user's. Device nodes cannot be made in there.
- A system call filter refuses modes with set-uid and set-gid, which would have the host run a guest's program with
  another's rights. It refuses extended attributes (file capabilities) and calls whose arguments it cannot see.
- It sees the folder as a mount of its own, at ``ROOM``: read-only for ``ro``, whatever the guest mounts it as, and
  reached whoever may enter the directories above it.

libvirt starts this as root, in place of virtiofsd; it becomes virtiofsd, with the same process id and open files.
An ordinary user starts it with ``--within``: the ids that newuidmap and newgidmap give to a user namespace, in which
all that is done. Standard library only: it runs without vmctl's packages.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import select
import socket
import stat
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = 0
NOBODY = 65534
LAST_ID = 2**32 - 2
OPEN_FILES = 1_000_000
"""What virtiofsd asks for; inside the namespace it may no longer ask."""
ROOM = next((place for place in ("/mnt", "/media") if Path(place).is_dir()), "/tmp")  # noqa: S108  only a place to mount
"""Where the folder is, in a mount namespace of this process's own."""
QUESTIONS = frozenset({"--print-capabilities", "--version", "-V", "--help", "-h"})
SOURCE = re.compile(r"(?P<before>(?:^|,)source=)(?P<path>(?:[^,]|,,)*)")

CONNECT_WITHIN = re.compile(r"--connect-within=(\d+),fd=(\d+)")
"""In place of ``--fd``: end unless somebody connects within so many seconds (virtiofsd would wait for ever). The
socket's name goes in either case, so nobody connects a second time, and none is left behind."""
WITHIN = "--within="
MAPPERS = (("newuidmap", "uid_map"), ("newgidmap", "gid_map"))

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 0x1000, 0x4000, 0x40000, 0x80000
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
MOUNT_SETATTR = 442  # the same number on every architecture, as all calls since 2018

Row = tuple[int, int, int]
Rule = list[tuple[int, int, int, int]]
"""Instructions of the kernel's packet filter machine: code, jump if true, jump if false, operand."""

LOAD, AND, EQUAL, ANY_BIT, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x45, 0x35, 0x06
ALLOW, REFUSE = (RETURN, 0, 0, 0x7FFF0000), (RETURN, 0, 0, 0x00050000 | errno.EPERM)
UNKNOWN = (RETURN, 0, 0, 0x00050000 | errno.ENOSYS)
UNSUPPORTED = (RETURN, 0, 0, 0x00050000 | errno.EOPNOTSUPP)
NUMBER, ARCHITECTURE = (LOAD, 0, 0, 0), (LOAD, 0, 0, 4)
SET_ID = stat.S_ISUID | stat.S_ISGID
MAKES = os.O_CREAT | (os.O_TMPFILE & ~os.O_DIRECTORY)
FOREIGN_CALLS = 0x40000000
"""Numbers from here on are those of x86's x32, which means the same calls."""


def exceptions(guest: int, host: int) -> dict[int, int | None]:
    """Ids inside that do not mean themselves outside; None = nothing at all.

    ``guest`` means ``host``, and the two change places. Nobody else means the host's root, and the guest's root means
    the host's nobody, rather than a person with an account.
    """
    spare = next(number for number in (NOBODY, NOBODY - 1, NOBODY - 2) if number not in (guest, host))
    changed: dict[int, int | None] = {guest: host, host: guest}
    if guest == ROOT != host:
        return changed | {host: None}
    return changed | {ROOT: spare, spare: guest if host == ROOT != guest else None}


def id_map(changed: dict[int, int | None]) -> list[Row]:
    """Rows (first id inside, first id outside, count) for all ids: those of ``changed``, and the rest as they are."""
    rows, start = [], 0
    for inside in sorted(changed):
        rows.append((start, start, inside - start))
        if (outside := changed[inside]) is not None:
            rows.append((inside, outside, 1))
        start = inside + 1
    rows.append((start, start, LAST_ID + 1 - start))
    return [row for row in rows if row[2] > 0]


def moved(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that virtiofsd is told to share, and its arguments with ``ROOM`` in place of it.

    libvirt writes ``-o source=PATH,…`` (a comma in it is doubled), or ``--shared-dir PATH``, depending on its age.

    Raises:
        SystemExit: there is no folder among them.
    """
    changed, found = list(arguments), ""
    for index, word in enumerate(arguments):
        before = arguments[index - 1] if index else ""
        if before == "-o" and (match := SOURCE.search(word)):
            found = match["path"].replace(",,", ",")
            changed[index] = f"{word[: match.start('path')]}{ROOM}{word[match.end('path') :]}"
        elif before == "--shared-dir":
            found, changed[index] = word, ROOM
        elif word.startswith("--shared-dir="):
            found, changed[index] = word.partition("=")[2], f"--shared-dir={ROOM}"
    if not found:
        sys.exit("virtiofsd is told to share no folder")
    return found, changed


def main(arguments: Sequence[str]) -> None:
    """Confine this process, and have it become virtiofsd."""
    within = arguments[0].removeprefix(WITHIN) if arguments[0].startswith(WITHIN) else ""
    users, groups, mode, program, *rest = arguments[1:] if within else arguments
    if rest and (found := CONNECT_WITHIN.fullmatch(rest[0])):
        _await_connection(int(found[2]), float(found[1]))
        rest[0] = f"--fd={found[2]}"
    if not QUESTIONS & set(rest):
        folder, rest = moved(rest)
        _allow_open_files()
        if within:
            _enter([_rows(text) for text in within.split("/")], _map_by_programs)
        _mount(folder, read_only=mode != "rw")
        _enter([_rows(users), _rows(groups)], _map)
        _become_root()
        _filter_calls()
    os.execv(program, [program, *rest])  # noqa: S606  this is what the program is for


def _await_connection(descriptor: int, seconds: float) -> None:
    """Wait for a connection to a listening socket, and leave it there for virtiofsd; nobody else finds it."""
    watch = select.poll()
    watch.register(descriptor, select.POLLIN)
    connected = watch.poll(seconds * 1000)
    with socket.socket(fileno=os.dup(descriptor)) as listener, suppress(OSError):
        Path(listener.getsockname()).unlink()
    if not connected:
        sys.exit("nobody connected")


def _rows(text: str) -> list[Row]:
    if ":" in text:
        guest, _, host = text.partition(":")
        return id_map(exceptions(int(guest), int(host)))
    numbers = (row.split("-") for row in text.split(","))
    return [(int(inside), int(outside), int(count)) for inside, outside, count in numbers]


def _allow_open_files() -> None:
    limit = min(OPEN_FILES, int(Path("/proc/sys/fs/nr_open").read_text(encoding="ascii")))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < limit:
        with suppress(ValueError, OSError):  # nobody with CAP_SYS_RESOURCE; virtiofsd does with less
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        sys.exit(f"{name}: {os.strerror(ctypes.get_errno())}")


def _mount(folder: str, *, read_only: bool) -> None:
    """Mount the folder at ``ROOM``, where this process alone sees it.

    What the host mounts below it later appears there too, unless it would be writable in what is read-only.
    """
    _call("unshare", CLONE_NEWNS)
    kind = MS_PRIVATE if read_only else MS_SLAVE
    _call("mount", None, b"/", None, ctypes.c_ulong(MS_REC | kind), None)
    _call("mount", os.fsencode(folder), os.fsencode(ROOM), None, ctypes.c_ulong(MS_BIND | MS_REC), None)
    flags = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (MOUNT_ATTR_RDONLY if read_only else 0)
    wanted = struct.pack("=QQQQ", flags, 0, 0, 0)
    size = ctypes.c_size_t(len(wanted))
    _call("syscall", ctypes.c_long(MOUNT_SETATTR), AT_FDCWD, os.fsencode(ROOM), AT_RECURSIVE, wanted, size)


def _enter(maps: Sequence[Sequence[Row]], write: Callable[[int, Sequence[Sequence[Row]]], bool]) -> None:
    """Move this process into a new user namespace, with all rights there.

    Only a process outside may write a map of many rows, so a child that stays outside does it.
    """
    reader, writer = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(writer)
        os._exit(0 if os.read(reader, 1) == b"." and write(os.getppid(), maps) else 1)
    _call("unshare", CLONE_NEWUSER)
    os.write(writer, b".")
    os.close(writer)
    os.close(reader)
    _, status = os.waitpid(helper, 0)
    if status != 0:
        sys.exit("the id maps cannot be written")


def _become_root() -> None:
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _map(process: int, maps: Sequence[Sequence[Row]]) -> bool:
    for (_, name), rows in zip(MAPPERS, maps, strict=True):
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in rows)
        Path(f"/proc/{process}/{name}").write_text(text, encoding="ascii")
    return True


def _map_by_programs(process: int, maps: Sequence[Sequence[Row]]) -> bool:
    """Have the set-uid programs do it, which know what /etc/subuid and /etc/subgid give to this user."""
    for (program, _), rows in zip(MAPPERS, maps, strict=True):
        words = [program, str(process), *(str(number) for row in rows for number in row)]
        if os.spawnvp(os.P_WAIT, program, words) != 0:  # noqa: S606  as above
            return False
    return True


def _argument(index: int) -> tuple[int, int, int, int]:
    return (LOAD, 0, 0, 16 + 8 * index)  # the lower half: modes and flags have 32 bits


def _mode(index: int) -> Rule:
    """For a call that sets the mode in an argument."""
    return [_argument(index), (ANY_BIT, 0, 1, SET_ID), REFUSE, ALLOW]


def _open(index: int) -> Rule:
    """For a call with flags in an argument and a mode in the next, which counts only where a file is made."""
    return [_argument(index), (ANY_BIT, 1, 0, MAKES), ALLOW, *_mode(index + 1)]


def _node(index: int) -> Rule:
    """For a call that makes a file of the kind in an argument."""
    devices = [(AND, 0, 0, 0o170000), (EQUAL, 0, 1, stat.S_IFCHR), REFUSE, (EQUAL, 0, 1, stat.S_IFBLK), REFUSE]
    return [_argument(index), (ANY_BIT, 0, 1, SET_ID), REFUSE, *devices, ALLOW]


OF_ALL: dict[int, Rule] = {452: _mode(2), 437: [UNKNOWN], 425: [UNKNOWN], 463: [UNSUPPORTED]}
"""fchmodat2, openat2, io_uring_setup, setxattrat."""
CALLS: dict[str, tuple[int, dict[int, Rule]]] = {
    "x86_64": (
        0xC000003E,
        {
            2: _open(1), 85: _mode(1), 90: _mode(1), 91: _mode(1), 133: _node(1), 257: _open(2), 259: _node(2),
            268: _mode(2), 188: [UNSUPPORTED], 189: [UNSUPPORTED], 190: [UNSUPPORTED],
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            33: _node(2), 52: _mode(1), 53: _mode(2), 56: _open(2),
            5: [UNSUPPORTED], 6: [UNSUPPORTED], 7: [UNSUPPORTED],
        },
    ),
}  # fmt: skip
"""By machine: the kernel's number for it; and what becomes of open, creat, chmod, fchmod, mknod, openat, mknodat,
fchmodat and three setxattr, by their numbers there (asm/unistd.h)."""


def filter_program(machine: str) -> bytes:
    """The filter, as the kernel takes it.

    Raises:
        SystemExit: this machine's system calls are not known here.
    """
    if machine not in CALLS:
        sys.exit(f"live folders are not possible on {machine}")
    kind, own = CALLS[machine]
    program: Rule = [ARCHITECTURE, (EQUAL, 1, 0, kind), UNKNOWN, NUMBER, (AT_LEAST, 0, 1, FOREIGN_CALLS), UNKNOWN]
    for number, rule in (OF_ALL | own).items():
        program += [(EQUAL, 0, len(rule), number), *rule]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in [*program, ALLOW])


def _filter_calls() -> None:
    text = filter_program(os.uname().machine)
    buffer = ctypes.create_string_buffer(text, len(text))
    program = struct.pack("@HP", len(text) // 8, ctypes.addressof(buffer))
    set_seccomp, mode_filter = 22, 2
    _call("prctl", set_seccomp, ctypes.c_ulong(mode_filter), program, ctypes.c_ulong(0), ctypes.c_ulong(0))


if __name__ == "__main__":
    main(sys.argv[1:])
