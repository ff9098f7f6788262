"""One SSH login that runs many commands: a new command costs a round trip, not a handshake."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from vmctl.errors import Unreachable
from vmctl.login import Login
from vmctl.ssh import channels, handshake, login_shell
from vmctl.ssh.link import Link, OnLine
from vmctl.wait import Deadline

if TYPE_CHECKING:
    from paramiko import Transport

CONNECT_TIMEOUT = 15.0
CHANNEL_TIMEOUT = 90.0  # a starved guest starts programs late; a connection that is gone is noticed by itself


@dataclass(frozen=True)
class Connection(Link):
    """An authenticated connection to a machine."""

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

    @property
    def name(self) -> str:
        """The machine's."""
        return self.login.machine

    def close(self) -> None:
        """End the connection."""
        self.transport.close()

    def _execute(
        self, argv: list[str], data: bytes | None, *, sudo: bool, deadline: float | None, on_line: OnLine | None
    ) -> tuple[int | None, str, str]:
        words = ["sudo", "-n", "-H", "--", *argv] if sudo and not self.login.is_root else argv
        status, out, err = self._communicate(words, data, deadline, on_line)
        printed, errors = (raw.decode(errors="replace") for raw in (out, err))
        if status is None:  # the mark may not have come yet
            answer = login_shell.answer(printed)
            return None, printed if answer is None else answer, errors
        return status, login_shell.must_answer(self.name, printed, errors, f"vmctl ssh {self.name}"), errors

    def _communicate(
        self, argv: Sequence[str], data: bytes | None, deadline: float | None, on_line: OnLine | None
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
                f"{self.name}: the SSH connection broke", details=str(error), hint=f"vmctl status {self.name}"
            ) from error
