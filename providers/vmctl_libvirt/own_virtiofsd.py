"""virtiofsd started by vmctl itself, as an ordinary user, for session mode, where libvirt before 10 starts none.

It ends when QEMU closes its end: with its machine, or when the share is taken out. The machine's lock, which the core
holds, keeps two vmctl from starting it at once; ``share_locks`` says what it leaves in which place.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vmctl import interrupt, process
from vmctl.errors import VmctlError, shell_command
from vmctl.flock import is_held, take
from vmctl.wait import Deadline, TimedOut, until
from vmctl_libvirt import rootless
from vmctl_libvirt.share_locks import LOCK, LOG, beside, prefix
from vmctl_libvirt.shares import SharedFolder

CONNECT_WITHIN = 30
"""Seconds for QEMU to connect; virtiofsd ends by itself then, should this vmctl have been killed."""
PATIENCE = 3.0
"""Seconds for virtiofsd to end by itself, once QEMU is gone; it takes milliseconds."""
LOG_LINES = 10
BLAMES = re.compile("vhost|msg header")
"""What QEMU says of a virtiofsd that has ended."""


def release(directory: Path, machine: str) -> None:
    """See that nothing serves a machine that is off; files of it go as well.

    Raises:
        VmctlError: something that serves it does not end.
    """
    names = {path.name.partition(".")[0] for path in directory.glob(f"{prefix(machine)}-*")}
    for name in names:
        end(directory / name)


def end(path: Path) -> None:
    """See that nothing serves at a socket any more, once QEMU has let go of it; its files go as well.

    Raises:
        VmctlError: virtiofsd does not end.
    """
    lock = beside(path, LOCK)
    try:
        until(lambda: not is_held(lock), Deadline.after(PATIENCE), "virtiofsd to end")
    except TimedOut:
        _kill(lock)
        until(
            lambda: not is_held(lock),
            Deadline.after(CONNECT_WITHIN + PATIENCE),
            "virtiofsd to end",
            hint=f"lsof {lock}",
        )
    for each in (path, lock, beside(path, LOG)):
        each.unlink(missing_ok=True)


@contextmanager
def served(folders: Sequence[SharedFolder]) -> Iterator[None]:
    """Have virtiofsd wait for QEMU at each folder's socket while the block has it connect; else it ends.

    Raises:
        VmctlError: it cannot be started, or has ended before QEMU was served.
    """
    with ExitStack() as all_served:
        for folder in folders:
            all_served.enter_context(_served(folder))
        yield


@contextmanager
def _served(folder: SharedFolder) -> Iterator[None]:
    path = Path(folder.socket)
    make_private(path.parent)
    end(path)
    server = start(path, rootless.argv(folder.host, folder.guest, read_only=folder.read_only))
    try:
        yield
    except BaseException as error:
        with interrupt.shielded():
            words = log_end(path)
            end_child(server)
            end(path)
        if words and BLAMES.search(str(error)):
            raise VmctlError(
                f"virtiofsd could not share {folder.host}", details=f"{words}\n{error}", hint="use `type: rsync`"
            ) from error
        raise


def make_private(directory: Path) -> None:
    """Have a directory that nobody else may enter.

    Raises:
        VmctlError: it is somebody else's, or open to others.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise VmctlError(
            f"{directory} is not a directory of yours alone", hint=shell_command("chmod", "go=", directory)
        )


def start(path: Path, words: Callable[[str], Sequence[str]]) -> int:
    """Start virtiofsd behind a new socket, whose name goes as soon as somebody has connected; its process id.

    Args:
        path: of the socket.
        words: the program and its arguments (``rootless.argv``), for one that says where to listen.
    """
    lock, log = (
        os.open(beside(path, suffix), flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        for suffix, flags in ((LOCK, os.O_RDWR), (LOG, os.O_WRONLY | os.O_TRUNC))
    )
    try:
        until(lambda: take(lock), Deadline.after(PATIENCE), "another vmctl's virtiofsd to end")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            within = f"--connect-within={CONNECT_WITHIN},fd={listener.fileno()}"
            server = process.start_detached(words(within), keep=(listener.fileno(), lock), output=log)
        os.write(lock, str(server).encode())
    finally:
        os.close(lock)
        os.close(log)
    return server


def log_end(path: Path) -> str:
    """The last lines of what virtiofsd behind a socket printed."""
    with suppress(OSError):
        text = beside(path, LOG).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.strip().splitlines()[-LOG_LINES:])
    return ""


def end_child(server: int) -> None:
    """End a child of ours with all that it started; nobody else gets its number before we have waited for it."""
    with suppress(ProcessLookupError):
        os.killpg(server, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(server, 0)


def _kill(lock: Path) -> None:
    """Kill what holds a lock: the process group that is noted in it.

    While the lock is held, somebody of that group lives, and so its number can mean no other. Each process is held by
    a handle of its own before that is looked at again.
    """
    group = lock.read_text(encoding="ascii").strip() if lock.exists() else ""
    for number in _members(group):
        with suppress(OSError):
            handle = os.pidfd_open(number)
            try:
                if number in _members(group) and is_held(lock):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)


def _members(group: str) -> Iterable[int]:
    for stat_file in Path("/proc").glob("[0-9]*/stat") if group.isdigit() else ():
        with suppress(OSError):
            _, _, rest = stat_file.read_text(encoding="ascii", errors="replace").rpartition(")")
            if rest.split()[2] == group:
                yield int(stat_file.parent.name)
