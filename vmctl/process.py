"""The only door to subprocesses: argv lists, own process group, a deadline, and the output in the error.

No function here takes a shell command line; ``shell=True`` does not exist in vmctl.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from msgspec import Struct, structs

from vmctl import interrupt, redaction
from vmctl.errors import VmctlError, in_words
from vmctl.user_environment import inherited

logger = logging.getLogger(__name__)

POLL = 0.1  # seconds between looks at the interrupt flag
GRACE = 2.0  # seconds between SIGTERM and SIGKILL
DETAIL_LINES = 40
LONGEST_LINE = 1024**2
"""Bytes after which a line is told though it has not ended."""
OF_THE_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin:/usr/lib/qemu:/usr/libexec"
Argv = Sequence[str | os.PathLike[str]]


class Completed(Struct, frozen=True):
    """A program that ended: its argv, exit status (negative: killed by that signal) and decoded output."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


class CommandFailed(VmctlError):
    """A program ended with a non-zero status, or was killed at its deadline; ``completed`` holds what it said."""

    def __init__(self, completed: Completed, *, reason: str = "", hint: str = "") -> None:
        name = Path(completed.argv[0]).name
        brief = f"{name} {reason or f'ended with status {completed.status}'}"
        output = (completed.stderr.strip() or completed.stdout.strip()).splitlines()[-DETAIL_LINES:]
        shown = f"$ {quoted(redaction.program(completed.argv))}"
        super().__init__(brief, details="\n".join([shown, *output]), hint=hint)
        self.completed = completed


class ProgramMissing(VmctlError):
    """A program that vmctl needs is not installed."""


def quoted(argv: Argv) -> str:
    """``argv`` as a person would type it in a shell; for messages only."""
    return shlex.join(os.fspath(word) for word in argv)


def find(program: str, *, package: str = "") -> str:
    """The full path of ``program``.

    Looks in PATH and then where system programs live (an ordinary user's PATH often lacks /usr/sbin).

    Raises:
        ProgramMissing: it is not there; the hint installs the Debian package ``package``.
    """
    path = shutil.which(program) or shutil.which(program, path=OF_THE_SYSTEM)
    if path is None:
        raise ProgramMissing(
            f"the program {program!r} is not installed", hint=f"sudo apt-get install {package or program}"
        )
    return path


def run(
    argv: Argv,
    *,
    check: bool = True,
    input: str | bytes | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    deadline: float | None = None,
    hint: str = "",
    named: bool = False,
) -> Completed:
    """Run a program to its end and return what it printed.

    Args:
        argv: the program and its arguments.
        check: raise on a non-zero status.
        input: what the program reads; without it, standard input is empty.
        cwd: the working directory.
        env: variables to add to the environment (``inherited``).
        deadline: seconds allowed; the whole process group is killed after them.
        hint: for the error.
        named: a Vmfile names the program; its arguments may be secrets, and are not written down.

    Raises:
        CommandFailed: non-zero status (with ``check``), or the deadline passed.
        ProgramMissing: there is no such program.
        Interrupted: the user asked to stop; the process group is gone by then.
    """
    words = tuple(os.fspath(word) for word in argv)
    started = time.monotonic()
    child = _spawn(words, named=named, **_piped(cwd, env, reads=input is not None))
    data = input.encode() if isinstance(input, str) else input
    with _ended(child):
        out, err = _communicate(child, words, data, started, deadline)
    completed = Completed(words, child.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
    shown = redaction.program(words, named=named)
    logger.debug("%s -> %d in %.2f s", quoted(shown), completed.status, time.monotonic() - started)
    if check and completed.status != 0:
        raise CommandFailed(structs.replace(completed, argv=shown) if named else completed, hint=hint)
    return completed


def stream(
    argv: Argv,
    on_line: Callable[[str], None],
    *,
    input: bytes | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    named: bool = False,
) -> int:
    """Run a program, pass each line it prints (both streams, in order) to ``on_line``, return its status.

    Without ``input``, its standard input is empty. ``named``: as for ``run``.

    Raises:
        ProgramMissing, Interrupted: as for ``run``.
    """
    words = tuple(os.fspath(word) for word in argv)
    child = _spawn(words, named=named, **_piped(cwd, env, reads=input is not None, merge=True))
    threading.Thread(target=_on_interrupt, args=(child, end_group), daemon=True).start()
    if child.stdin and input is not None:
        threading.Thread(target=_feed, args=(child.stdin, input), daemon=True).start()
    with _ended(child):
        while child.stdout and (raw := child.stdout.readline(LONGEST_LINE)):
            on_line(raw.decode(errors="replace").rstrip("\r\n"))
        child.wait()
    interrupt.check()
    return child.returncode


def foreground(argv: Argv) -> int:
    """Run a program with our own standard streams and terminal, and return its status (negative: that signal's).

    Raises:
        ProgramMissing, Interrupted: as for ``run``.
    """
    words = tuple(os.fspath(word) for word in argv)
    child = _spawn(words)
    threading.Thread(target=_on_interrupt, args=(child, _terminate), daemon=True).start()
    child.wait()
    interrupt.check()
    return child.returncode


def start_detached(argv: Argv, *, keep: Sequence[int] = (), output: int | None = None) -> int:
    """Start a program that goes on when vmctl has ended, silent and in a session of its own; its process id.

    Args:
        argv: the program's full path, and its arguments.
        keep: file descriptors of ours that it gets, under the same numbers.
        output: one that all it prints goes to; None = nowhere.

    Raises:
        ProgramMissing: it cannot be started.
    """
    words = [os.fspath(word) for word in argv]
    logger.debug("start %s", quoted(redaction.program(words)))
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    kept = [(os.POSIX_SPAWN_DUP2, number, number) for number in keep]  # which makes them inheritable
    told = [] if output is None else [(os.POSIX_SPAWN_DUP2, output, number) for number in (1, 2)]
    try:
        return os.posix_spawn(words[0], words, inherited(), file_actions=[*null, *kept, *told], setsid=True)
    except OSError as error:
        raise ProgramMissing(f"the program {words[0]!r} cannot be started", details=in_words(error)) from error


def _on_interrupt(child: subprocess.Popen[bytes], end: Callable[[subprocess.Popen[bytes]], None]) -> None:
    while child.poll() is None:
        if interrupt.requested():
            end(child)
            return
        time.sleep(POLL)


def _terminate(child: subprocess.Popen[bytes]) -> None:
    """End a child that shares our process group; it has no group of its own to be killed with."""
    child.terminate()
    time.sleep(GRACE)
    child.kill()


@contextlib.contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """However the block ends, the child is gone and its pipes are closed."""
    try:
        yield
    except BaseException:
        end_group(child)
        raise
    finally:
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _spawn(argv: tuple[str, ...], *, named: bool = False, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program, with options of ``Popen``."""
    logger.debug("run %s", quoted(redaction.program(argv, named=named)))
    interrupt.check()
    try:
        return subprocess.Popen(argv, **options)
    except FileNotFoundError as error:
        raise ProgramMissing(f"the program {argv[0]!r} is not installed", details=str(error)) from error


def _piped(cwd: Path | None, env: Mapping[str, str] | None, *, reads: bool, merge: bool = False) -> dict[str, Any]:
    """Options of ``Popen`` for a program that reads from us, or nothing, and whose output we read."""
    return {
        "cwd": cwd,
        "env": {**inherited(), **(env or {})},
        "stdin": subprocess.PIPE if reads else subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT if merge else subprocess.PIPE,
        "start_new_session": True,  # Ctrl-C reaches vmctl alone, which then ends the group itself
    }


def _communicate(
    child: subprocess.Popen[bytes], argv: tuple[str, ...], data: bytes | None, started: float, deadline: float | None
) -> tuple[bytes, bytes]:
    while True:
        try:
            return child.communicate(data, timeout=POLL)
        except subprocess.TimeoutExpired:
            data = None  # communicate() keeps what it was given first
        interrupt.check()
        if deadline is not None and time.monotonic() - started > deadline:
            end_group(child)
            out, err = _rest(child)
            completed = Completed(argv, -signal.SIGKILL, out.decode(errors="replace"), err.decode(errors="replace"))
            raise CommandFailed(completed, reason=f"did not end within {deadline:g} s")


def _rest(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What an ended child has printed; somebody else (ssh's master) may hold its pipes open for longer."""
    try:
        return child.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired as error:
        return error.stdout or b"", error.stderr or b""


def _feed(stdin: IO[bytes], data: bytes) -> None:
    """Write what a program reads, while it already prints; one that has read enough may close its end."""
    with contextlib.suppress(OSError, ValueError), stdin as pipe:
        pipe.write(data)


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a child of ours and all that it started: SIGTERM, a short grace, SIGKILL. Its pipes stay readable."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        if _ends(child, with_group=number == signal.SIGTERM):  # what is left of a group cannot refuse SIGKILL
            return


def _ends(child: subprocess.Popen[bytes], *, with_group: bool) -> bool:
    """Whether it ends within the grace, and all others of its group too."""
    until = time.monotonic() + GRACE
    while time.monotonic() < until:
        if child.poll() is not None and not (with_group and _exists(child.pid)):
            return True
        time.sleep(POLL / 10)
    return False


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
