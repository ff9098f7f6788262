"""Copying a folder into the guest with rsync: one way, host to guest.

What the host has, replaces what the guest has under the same name. Nothing else of the guest is touched, except that
what an earlier copy sent and the host has since lost is removed: each folder's list of what was sent says what that
is. So what the guest builds inside the folder stays. The list is in the guest, so that it goes with the disk (back to a
snapshot, into a box, on as a layer); the host has a copy, lest it be fetched each time.

Left out: ``.vmctl/`` (it is this host's), and the folder's ``exclude:``. Sent as the login user's own files; symbolic
links stay links; devices, pipes and sockets are not sent, which is told.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from vmctl import process, units
from vmctl.errors import Unreachable
from vmctl.layout import MachineLayout
from vmctl.login import Login
from vmctl.process import CommandFailed
from vmctl.spec import Folder
from vmctl.ssh import login_shell
from vmctl.store import files

if TYPE_CHECKING:
    from vmctl.ssh import Connection

SHELL = Path(__file__).with_name("rsh.sh")
ALWAYS_EXCLUDED = (".vmctl/",)
UNREACHED = frozenset({10, 12, 30, 35, 255})  # rsync's statuses for broken connections, and ssh's own
VANISHED = 24  # a file went away while it was read: the next copy sees that

# Run as root with the folder as $1; names to remove, deepest first, come as NUL-ended words. A directory of the guest
# that has become a symbolic link is not followed: what lies outside the folder is not ours.
REMOVE = r"""
root=$(cd -P -- "$1" && pwd) && cd "$root" || exit
xargs -0 sh -c '
    root=$1; shift; seen=; real=
    for path; do
        case $path in */*) parent=${path%/*}; place=$root/$parent ;; *) parent=.; place=$root ;; esac
        [ "$seen" = "$parent" ] || { seen=$parent; real=$(realpath -e -- "./$parent" 2>/dev/null); }
        [ "$real" = "$place" ] || continue
        if [ -d "./$path" ] && [ ! -L "./$path" ]; then rmdir "./$path" 2>/dev/null; else rm -f "./$path"; fi
    done; :' sh "$root"
"""


# Of the list whose name is $1; run as the login user, whose it is, in whatever home that has.
LISTS = 'cd -- "${XDG_STATE_HOME:-$HOME/.local/state}/vmctl/copied" 2>/dev/null'
HASH = f'{LISTS} && [ -f "$1" ] && sha256sum -- "$1" || echo none'
FETCH = f'{LISTS} && base64 -- "$1"'
KEEP = r"""
umask 077
place=${XDG_STATE_HOME:-$HOME/.local/state}/vmctl/copied
mkdir -p -- "$place" && cat >"$place/$1.new" && mv -f -- "$place/$1.new" "$place/$1"
"""


class Sent(Struct, frozen=True, kw_only=True):
    """What one copy changed in the guest."""

    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    """Neither files nor directories nor links."""
    size: int = 0
    """Bytes of the files that were sent."""

    def __str__(self) -> str:
        parts = [f"{len(self.changed)} sent ({units.readable(self.size)})"] if self.changed else []
        parts += [f"{len(self.removed)} removed"] if self.removed else []
        return ", ".join(parts) or "nothing to do"


class _Item(Struct, frozen=True):
    """One line of rsync's itemised output."""

    flags: str
    size: int
    name: bytes

    @property
    def is_sent(self) -> bool:
        """Whether the guest's file or link was made or changed; directories do not count."""
        return self.flags[1] != "d" and bool(self.flags[0] in "<ch" or self.flags[2:].strip(" ."))


def send(connection: Connection, folder: Folder, login: Login, *, owner: tuple[int, int]) -> Sent:
    """Bring the guest's copy of a folder up to date.

    Args:
        connection: to the guest, for removals and the list.
        folder: what to copy; ``prepare`` has made its directory.
        login: the guest, for OpenSSH; its ``ssh_config`` is written.
        owner: uid and gid of the login user.

    Raises:
        Unreachable: the connection failed.
        CommandFailed: rsync failed otherwise; what was sent stays, and the next copy goes on from there.
        ProgramMissing: the host has no rsync.
        Interrupted.
    """
    items, skipped = _run(folder, login, owner)
    name = hashlib.sha256(folder.guest.encode()).hexdigest()[:16]
    known = MachineLayout(login.config.parent).synced / name
    host_has = files.read(known) if files.exists(known) else b""
    guest_has = _list(connection, name, host_has)
    old = {name for name in (host_has if guest_has is None else guest_has).split(b"\0") if _is_below(name)}
    new = {item.name for item in items}
    gone = sorted((name for name in old - new if not _on_host(folder, name)), reverse=True)
    if gone:
        names = b"".join(name.rstrip(b"/") + b"\0" for name in gone)
        connection.run(["sh", "-c", REMOVE, "sh", folder.guest], input=names, sudo=True)
    content = b"\0".join(sorted(new))
    files.write(known, content)
    if content != guest_has:
        connection.run(["sh", "-c", KEEP, "sh", name], input=content)
    sent = [item for item in items if item.is_sent]
    return Sent(
        changed=tuple(_shown(item.name) for item in sent),
        removed=tuple(_shown(name) for name in gone),
        skipped=tuple(_shown(name) for name in skipped),
        size=sum(item.size for item in sent if item.flags.startswith("<f")),
    )


def _list(connection: Connection, name: str, known: bytes) -> bytes | None:
    """What earlier copies have sent to this disk, fetched unless it is ``known``; None = the guest has no list."""
    (digest, *_) = connection.run(["sh", "-c", HASH, "sh", name]).stdout.split() or ["none"]
    if digest == "none":
        return None
    if digest == hashlib.sha256(known).hexdigest():
        return known
    return base64.b64decode(connection.run(["sh", "-c", FETCH, "sh", name]).stdout)


def _is_below(name: bytes) -> bool:
    """Whether a name is one in the folder: the guest, who has the list, is not to learn what else this host has."""
    return bool(name) and not name.startswith(b"/") and b".." not in name.split(b"/")


def _on_host(folder: Folder, name: bytes) -> bool:
    """An excluded file is not in the list, and yet it is no reason to remove the guest's."""
    return os.path.lexists(os.path.join(os.fsencode(folder.host), name.rstrip(b"/")))  # noqa: PTH118  bytes


def argv(folder: Folder, login: Login, owner: tuple[int, int]) -> list[str]:
    """The rsync command line."""
    words = ("sh", str(SHELL), login_shell.MARK, process.find("ssh", package="openssh-client"), str(login.config))
    shell = " ".join(_word(word) for word in words)
    read_only = ["--chmod=Fa-w"] if folder.read_only else []
    excludes = [f"--exclude={pattern}" for pattern in (*ALWAYS_EXCLUDED, *folder.exclude)]
    return [
        process.find("rsync"),
        "--recursive", "--links", "--perms", "--times", "--owner", "--group", f"--chown={owner[0]}:{owner[1]}",
        *read_only,
        "--protect-args", "-ii", "--out-format=%i %l %n",
        f"--rsh={shell}", f"--rsync-path={'rsync' if login.is_root else 'sudo -n rsync'}",
        *excludes,
        "--", f"{folder.host}/", f"{login.machine}:{folder.guest}/",
    ]  # fmt: skip


def _word(word: str) -> str:
    """A word of rsync's ``--rsh``, which it splits itself: quotes group, a doubled quote stands for one."""
    return "'" + word.replace("'", "''") + "'"


def _run(folder: Folder, login: Login, owner: tuple[int, int]) -> tuple[list[_Item], list[bytes]]:
    """What the folder has: what was sent or is there already, and the names of what is not a file."""
    # In the C locale rsync escapes every byte that is not ASCII, so that all names survive exactly.
    completed = process.run(argv(folder, login, owner), check=False, env={"LC_ALL": "C", "RSYNC_OLD_ARGS": "0"})
    if completed.status in UNREACHED:
        raise Unreachable(
            f"{login.machine}: rsync lost the guest",
            details=completed.stderr.strip(),
            hint=f"vmctl status {login.machine}",
        )
    if completed.status not in (0, VANISHED):
        raise CommandFailed(completed, hint=f"vmctl sync {shlex.quote(login.machine)}")
    lines = completed.stdout.splitlines()
    skipped = [_name(found["name"]) for line in lines if (found := _SKIPPED.fullmatch(line))]
    return [item for line in lines if (item := _parse(line))], skipped


_LINE = re.compile(r"(?P<flags>[<>ch.][fdLDS].{9}) (?P<size>\d+) (?P<name>.*)")
_SKIPPED = re.compile(r'skipping non-regular file "(?P<name>.*)"')
_ESCAPE = re.compile(rb"\\#([0-7]{3})")


def _parse(line: str) -> _Item | None:
    found = _LINE.fullmatch(line)
    if not found:
        return None
    name = _name(found["name"])
    return None if name == b"./" else _Item(found["flags"], int(found["size"]), name)


def _name(escaped: str) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), escaped.encode("ascii", "replace"))


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")
