"""Whether an ordinary user can have virtiofsd here, and how it is run: by evidence, for many things can forbid it.

In the outer namespace the user is who they are, and all other ids are theirs by /etc/subuid, or nobody's. The inner
one is ``confined_virtiofsd``'s, as in system mode: the guest's login user is the user, its root a spare id of theirs.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vmctl import process
from vmctl.errors import VmctlError
from vmctl_libvirt import confined_virtiofsd
from vmctl_libvirt.confined_virtiofsd import LAST_ID, NOBODY, Row, exceptions, id_map
from vmctl_libvirt.share_locks import place, socket_path

SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")
INSTALL = "sudo apt-get install virtiofsd    # Debian 12: qemu-system-common"
LONGEST_SOCKET = 107
"""Bytes of a socket's path, by the kernel."""
SWITCHES = (
    ("user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
)
"""What below /proc/sys turns user namespaces off for ordinary users, by which value, and what turns them on."""
GET_FEATURES = (1).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(4)
"""vhost-user's first question: number, version, size of what follows."""
TRY, STALE = "try-", 600
"""Where attempts are made, and when one is certainly over, in seconds."""
ANSWER_WITHIN = 30.0
"""Seconds; virtiofsd takes 0.1."""
MOST_ROWS = 300
"""The kernel takes 340 in a map; one range may be cut in two, and the inner map has some more."""
Range = tuple[int, int]
"""First id, and how many."""


@dataclass(frozen=True)
class Obstacle:
    """Why an ordinary user cannot have virtiofsd."""

    reason: str
    remedy: str = ""
    """A command."""


@dataclass(frozen=True)
class SubordinateIds:
    """What /etc/subuid and /etc/subgid give to this user."""

    users: tuple[Range, ...]
    groups: tuple[Range, ...]

    @classmethod
    def of(cls, name: str, number: int, files: Sequence[Path] = (SUBUID, SUBGID)) -> SubordinateIds:
        """Those of the user of this name and number; a file that cannot be read gives nothing."""
        users, groups = (id_ranges(text_of(file), (name, str(number))) for file in files)
        return cls(users, groups)


def argv(folder: str, guest: tuple[int, int], *, read_only: bool) -> Callable[[str], list[str]]:
    """How to run virtiofsd for a folder, as this user: its program and arguments, for one that says where to listen.

    Args:
        folder: on the host.
        guest: user and group in the guest that the user and their group here shall be.
        read_only: whether nothing in it may be changed, whatever the guest does.

    Raises:
        VmctlError: there is no virtiofsd.
    """
    from vmctl_libvirt.shares import find  # which asks this module first

    virtiofsd = find()
    if virtiofsd is None:
        raise VmctlError(f"cannot share {folder}: there is no virtiofsd", hint="use `type: rsync`")
    user, group = os.geteuid(), os.getegid()
    given = SubordinateIds.of(_name(user), user)
    around = outer_map(user, given.users), outer_map(group, given.groups)
    within = [inner_map(*row) for row in zip(guest, (user, group), around, strict=True)]
    return lambda listen: [
        sys.executable, "-IS", confined_virtiofsd.__file__,
        f"{confined_virtiofsd.WITHIN}{'/'.join(map(map_word, around))}",
        *map(map_word, within), "ro" if read_only else "rw", str(virtiofsd),
        listen, "--rlimit-nofile=0", "-o", f"source={folder.replace(',', ',,')}",
    ]  # fmt: skip


def obstacle(home: Path, virtiofsd: Path | None) -> Obstacle | None:
    """Why folders cannot be live in session mode here; None = they can, which was tried."""
    user = os.geteuid()
    if virtiofsd is None:
        return Obstacle("there is no virtiofsd", INSTALL)
    if len(os.fsencode(socket_path(home, "", ""))) > LONGEST_SOCKET:
        return Obstacle(f"{place(home)} is too long a path for sockets", "export VMCTL_HOME=…    # a shorter one")
    for program, _ in confined_virtiofsd.MAPPERS:
        try:
            process.find(program, package="uidmap")
        except process.ProgramMissing as error:
            return Obstacle(error.brief, error.hint)
    return _no_ids(_name(user), user) or _tried(home, _answers)


def _no_ids(name: str, number: int, files: Sequence[Path] = (SUBUID, SUBGID)) -> Obstacle | None:
    given = SubordinateIds.of(name, number, files)
    short = [
        (file, option)
        for file, found, option in zip(files, (given.users, given.groups), ("uids", "gids"), strict=True)
        if not are_enough(found)
    ]
    if not short:
        return None
    words = []
    for file, option in short:
        first, count = free_range(text_of(file))
        words.append(f"--add-sub{option} {first}-{first + count - 1}")
    lacking = " and ".join(str(file) for file, _ in short)
    return Obstacle(
        f"{lacking} do not give {name} 65536 ids for a guest's users"
        if len(short) > 1
        else f"{lacking} does not give {name} 65536 ids for a guest's users",
        f"sudo usermod {' '.join(words)} {name}",
    )


def _tried(home: Path, answers: Callable[[Path], str]) -> Obstacle | None:
    """What comes of an attempt to serve an empty directory."""
    from vmctl_libvirt.own_virtiofsd import make_private

    try:
        make_private(place(home))
        _sweep(place(home))
        with tempfile.TemporaryDirectory(prefix=TRY, dir=place(home)) as made:
            problem = answers(Path(made))
    except (OSError, VmctlError) as error:
        problem = str(error)
    return Obstacle(problem, _switch()) if problem else None


def _sweep(directory: Path) -> None:
    """Remove what attempts of a vmctl have left that was killed."""
    for old in directory.glob(f"{TRY}*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > STALE:
                shutil.rmtree(old)


def _answers(directory: Path) -> str:
    """Have virtiofsd serve a directory and answer a question; what it says in place of an answer, "" = it answers."""
    from vmctl_libvirt import own_virtiofsd

    path = directory / "s"
    user, group = os.geteuid(), os.getegid()
    server = own_virtiofsd.start(path, argv(str(directory), (user, group), read_only=False))
    try:
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.settimeout(ANSWER_WITHIN)
            client.connect(str(path))
            client.sendall(GET_FEATURES)
            if client.recv(len(GET_FEATURES)):
                return ""
        return (own_virtiofsd.log_end(path).splitlines() or ["virtiofsd does not answer"])[-1]
    finally:
        own_virtiofsd.end_child(server)


def _switch(switches: Path = Path("/proc/sys")) -> str:
    """The command that lets ordinary users have namespaces, where that is what is missing."""
    return next((on for name, off, on in SWITCHES if text_of(switches / name).strip() == off), "")


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def text_of(path: Path) -> str:
    """A file's text; "" where it cannot be read, as of one that is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def id_ranges(text: str, names: Collection[str]) -> tuple[Range, ...]:
    """The ranges that a file like /etc/subuid gives to a user, by name or number.

    Args:
        text: the file's.
        names: the user's name and number.
    """
    return tuple((start, count) for name, start, count in _rows(text) if name in names)


def are_enough(given: Sequence[Range]) -> bool:
    """Whether there are enough for every id that guests commonly have, nobody's included."""
    return sum(count for _, count in given[:MOST_ROWS]) > NOBODY


def free_range(text: str) -> Range:
    """A range of the usual size that a file like /etc/subuid gives to nobody."""
    return max(100_000, *(start + count for _, start, count in _rows(text)), 0), NOBODY + 2


def _rows(text: str) -> Iterator[tuple[str, int, int]]:
    for line in text.splitlines():
        match line.split(":"):
            case name, start, count if start.isdigit() and count.isdigit():
                yield name, int(start), int(count)


def outer_map(own: int, given: Sequence[Range]) -> list[Row]:
    """Rows for newuidmap: ``own`` is itself, and the other ids, from 0 on, are those that were given."""
    rows, inside = [(own, own, 1)], 0
    for start, count in given[:MOST_ROWS]:
        before = min(count, own - inside) if inside <= own else count
        if before:
            rows.append((inside, start, before))
        inside += before
        if before < count:
            rows.append((inside + 1, start + before, count - before))
            inside += 1 + count - before
    return sorted(row for row in rows if row[0] + row[2] <= LAST_ID)


def inner_map(guest: int, own: int, around: Sequence[Row]) -> list[Row]:
    """Rows for the namespace within: ``guest`` is ``own``. Each lies in one row of ``around``, as the kernel wants."""
    return sorted(part for row in id_map(exceptions(guest, own)) for part in _parts(row, around))


def _parts(row: Row, around: Sequence[Row]) -> Iterator[Row]:
    inside, outside, count = row
    for start, _, many in around:
        first, end = max(outside, start), min(outside + count, start + many)
        if first < end:
            yield inside + first - outside, first, end - first


def map_word(rows: Sequence[Row]) -> str:
    """A map as ``confined_virtiofsd`` reads it."""
    return ",".join("-".join(map(str, row)) for row in rows)
