"""One SSH login that runs many commands: a new command costs a round trip, not a handshake."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vmctl.errors import Unreachable, VmctlError
from vmctl.login import Login
from vmctl.process import CommandFailed, Completed
from vmctl.ssh import channels, handshake, login_shell
from vmctl.wait import Deadline

if TYPE_CHECKING:
    from paramiko import Transport

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 15.0
CHANNEL_TIMEOUT = 90.0  # a starved guest starts programs late; a connection that is gone is noticed by itself
# $1 is the target, $2 its mode: the content appears whole or not at all.
PUT_SCRIPT = (
    'set -e; part="$1.vmctl-part.$$"; trap \'rm -f "$part"\' EXIT; '
    'umask 077; cat >"$part"; chmod "$2" "$part"; mv -f "$part" "$1"'
)


@dataclass(frozen=True)
class Connection:
    """An authenticated connection to a machine; close it, or use it in a ``with`` block."""

    login: Login
    transport: Transport

    @classmethod
    def connect(cls, login: Login, timeout: float = CONNECT_TIMEOUT) -> Self:
        """Connect to a machine that should be up; one try.

        Raises:
            Unreachable: it does not answer, is not who it should be, or does not let us in.
            Interrupted: the user asked to stop.
        """
        deadline = Deadline.after(timeout)
        address = login.address
        try:
            sock = socket.create_connection((address.host, address.port), timeout=timeout)
        except OSError as error:
            raise Unreachable(
                f"{login.machine}: nothing answers on {address.host}:{address.port}",
                details=str(error),
                hint=f"vmctl up {login.machine}",
            ) from error
        return cls(login, handshake.authenticated(login, sock, deadline))

    def close(self) -> None:
        """End the connection."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def run(
        self,
        command: str | Sequence[str],
        *,
        input: str | bytes | None = None,
        sudo: bool = False,
        check: bool = True,
        deadline: float | None = None,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a command in the guest to its end.

        Args:
            command: an argv (passed exactly), or text for ``sh -c``.
            input: what it reads; without it, standard input is empty.
            sudo: run it as root, which needs no sudo where root logs in.
            check: raise on a non-zero status.
            deadline: seconds allowed.
            env: variables to add to its environment.
            on_line: called with each line of its output (both streams) as it comes.

        Returns:
            What it printed, and its status; 128 when a signal ended it.

        Raises:
            CommandFailed: non-zero status (with ``check``), or the deadline passed.
            Unreachable: the connection broke.
            Interrupted: the user asked to stop; the guest's program gets a hang-up.
        """
        argv = _argv(command, sudo=sudo and not self.login.is_root, env=env)
        data = input.encode() if isinstance(input, str) else input
        started = time.monotonic()
        status, out, err = self._execute(argv, data, deadline, on_line)
        shown = tuple(command) if not isinstance(command, str) else (command,)
        printed, errors = _text(out), _text(err)
        answer = login_shell.answer(printed)
        if answer is None and status is not None:
            raise login_shell.not_run(self.login.machine, printed + errors, f"vmctl ssh {self.login.machine}")
        completed = Completed(shown, -1 if status is None else status, printed if answer is None else answer, errors)
        program = shown[0].split(maxsplit=1)[:1]  # its arguments are the Vmfile's: they may hold secrets
        logger.debug("%s: %s -> %s in %.2f s", self.login.machine, program, status, time.monotonic() - started)
        if status is None:
            raise CommandFailed(completed, reason=f"did not end within {deadline or 0:g} s in {self.login.machine}")
        if check and status != 0:
            raise CommandFailed(completed, reason=f"ended with status {status} in {self.login.machine}")
        return completed

    def _execute(
        self, argv: Sequence[str], data: bytes | None, deadline: float | None, on_line: Callable[[str], None] | None
    ) -> tuple[int | None, bytes, bytes]:
        import paramiko

        limit = None if deadline is None else Deadline.after(deadline)
        heard = login_shell.Lines(on_line) if on_line else None
        try:
            channel = self.transport.open_session(timeout=CHANNEL_TIMEOUT)
            channel.exec_command(login_shell.line(argv))
            return channels.communicate(channel, data, limit, heard, on_line)
        except (paramiko.SSHException, channels.Lost, EOFError, OSError) as error:
            raise Unreachable(
                f"{self.login.machine}: the SSH connection broke",
                details=str(error),
                hint=f"vmctl status {self.login.machine}",
            ) from error

    def put(self, source: bytes | Path, remote: str, *, mode: int = 0o644, sudo: bool = False) -> None:
        """Write a file in the guest; it appears whole or not at all.

        Args:
            source: the content, or a file on the host (held in memory meanwhile: for small files).
            remote: its path in the guest; the directory must exist.
            mode: its permission bits.
            sudo: write it as root.

        Raises:
            VmctlError: ``source`` cannot be read.
            CommandFailed, Unreachable, Interrupted: as for ``run``.
        """
        self.run(put_argv(remote, mode), input=content(source), sudo=sudo)


def content(source: bytes | Path) -> bytes:
    """What ``put`` sends.

    Raises:
        VmctlError: ``source`` cannot be read.
    """
    try:
        return source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise VmctlError(f"{source!s} cannot be read", details=str(error)) from error


def put_argv(remote: str, mode: int) -> list[str]:
    """What writes its input to the file ``remote``, whole or not at all."""
    return ["sh", "-c", PUT_SCRIPT, "sh", remote, f"{mode:o}"]


def _argv(command: str | Sequence[str], *, sudo: bool, env: Mapping[str, str] | None) -> list[str]:
    words = ["sh", "-c", command] if isinstance(command, str) else list(command)
    if env:
        words = ["env", *(f"{key}={value}" for key, value in env.items()), *words]
    return ["sudo", "-n", "-H", "--", *words] if sudo else words


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
