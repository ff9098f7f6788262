"""A link through OpenSSH's own client: for servers, which are reached as their users reach them.

The user's agent, ``~/.ssh/config``, jump hosts and ``known_hosts`` count as they do for ``ssh``. One connection (a
control master) serves all commands, so that each costs a round trip.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from msgspec import Struct

from vmctl import interrupt, process, user_environment
from vmctl.errors import Unreachable, VmctlError
from vmctl.process import CommandFailed, Completed
from vmctl.ssh import login_shell, server_options
from vmctl.ssh.kept_output import KeptOutput
from vmctl.ssh.link import Link, OnLine

LONGEST_DIRECTORY = 59  # bytes, so that a control socket below it fits into a socket address

CONNECT_TIMEOUT = 30  # seconds, for ssh itself, with each host on the way
PATIENCE = 90.0  # seconds until a connection that hangs is given up
LOST = 255  # ssh's own status when there is no connection
KEY_REFUSED = "Host key verification failed"
UNKNOWN_KEY = (
    "ssh-keyscan HOST    # compare what it prints with the server's own key, then add it to ~/.ssh/known_hosts"
)
IDLE = 60  # seconds after which a master ends by itself, should vmctl be killed
# What is run arrives on standard input, before what it reads: a command line here could be read by everybody.
REMOTE = 'eval "$(dd bs=1 count={length} 2>/dev/null)"'
# As root already, or through sudo: which of them a server's user needs is known there only.
AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec "$@"; else exec sudo -n -H -- "$@"; fi'


class Destination(Struct, frozen=True, kw_only=True):
    """Where ssh goes, and how."""

    name: str
    """The server's name, for messages."""
    host: str
    """What ssh calls it."""
    options: tuple[str, ...] = ()
    """Words before the host."""
    enter: str = ""
    """The command that a user would try by hand."""

    def argv(self, settings: Mapping[str, str], *words: str) -> list[str]:
        """The ``ssh`` command line up to the host's name.

        Args:
            settings: of ``vmctl.ssh.server_options``; they come first, for the first value holds.
            words: further ones.
        """
        program = process.find("ssh", package="openssh-client")
        return [program, *server_options.words(settings), *words, *self.options, "--", self.host]


@dataclass
class OpenSsh(Link):
    """An open connection to a server."""

    destination: Destination
    directory: Path

    @classmethod
    def connect(cls, destination: Destination) -> Self:
        """Log in; one try.

        Raises:
            Unreachable: it does not answer, shows a host key that is not known, or does not let us in.
            Interrupted: the user asked to stop.
        """
        sockets = tempfile.mkdtemp(prefix="vmctl-", dir=user_environment.temporary_directory(LONGEST_DIRECTORY))
        link = cls(destination, Path(sockets))
        try:
            link._open()
        except BaseException:
            link.close()
            raise
        return link

    def _open(self) -> None:
        limit = f"-oConnectTimeout={CONNECT_TIMEOUT}"
        master = ["-M", "-f", "-N", "-o", f"ControlPersist={IDLE}", "-o", "ServerAliveInterval=15"]
        argv = self.destination.argv(server_options.OWN, limit, *master, "-S", str(self._socket))
        try:
            process.run(argv, deadline=PATIENCE)
        except CommandFailed as error:
            # A master hides what the ssh to a jump host says; one without it does not.
            again = [*self.destination.argv(server_options.COMMAND, limit, "-S", "none"), "true"]
            output = process.run(again, check=False, deadline=PATIENCE).stderr.strip()
            output = output or error.completed.stderr.strip() or error.brief
            name = self.destination.name
            hint = UNKNOWN_KEY if KEY_REFUSED in output else self.destination.enter
            raise Unreachable(f"{name}: ssh could not log in", details=output, hint=hint) from error

    @property
    def _socket(self) -> Path:
        return self.directory / "s"

    def close(self) -> None:
        """End the connection."""
        with interrupt.shielded(), contextlib.suppress(VmctlError):
            if self._socket.exists():
                process.run(self._control("exit"), check=False, deadline=5)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def name(self) -> str:
        """The server's."""
        return self.destination.name

    def _execute(
        self, argv: list[str], data: bytes | None, *, sudo: bool, deadline: float | None, on_line: OnLine | None
    ) -> tuple[int, str, str]:
        text = shlex.join(["sh", "-c", AS_ROOT, "sh", *argv] if sudo else argv).encode()
        # What may run for long has a connection of its own: the master would hold its pipes after an interruption.
        socket = str(self._socket) if on_line is None else "none"
        command = self.destination.argv(server_options.COMMAND, "-S", socket, "-o", "ServerAliveInterval=15")
        command.append(login_shell.line(["sh", "-c", REMOTE.format(length=len(text))]))
        done = self._client(command, text + (data or b""), deadline, on_line)
        hint = self.destination.enter
        if done.status == LOST and not self._alive():
            raise Unreachable(f"{self.name}: the SSH connection broke", details=done.stderr.strip(), hint=hint)
        return max(done.status, -1), login_shell.must_answer(self.name, done.stdout, done.stderr, hint), done.stderr

    def _client(self, command: Sequence[str], data: bytes, deadline: float | None, on_line: OnLine | None) -> Completed:
        if on_line is None:
            return process.run(command, input=data, check=False, deadline=deadline)
        kept = KeptOutput(whole=False)
        answer = login_shell.Lines(on_line)

        def hear(line: str) -> None:
            kept.add(f"{line}\n".encode())
            answer(line)

        status = process.stream(command, hear, input=data)
        return Completed(tuple(command), status, kept.content().decode(), "")

    def _alive(self) -> bool:
        return process.run(self._control("check"), check=False, deadline=5).status == 0

    def _control(self, order: str) -> list[str]:
        return self.destination.argv(server_options.OWN, "-S", str(self._socket), "-O", order)
