"""One SSH login that runs many commands: a new command costs a round trip, not a handshake."""

from __future__ import annotations

import codecs
import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from vmctl import interrupt, process
from vmctl.errors import Unreachable, VmctlError, in_words
from vmctl.login import Login
from vmctl.ssh import handshake, login_shell
from vmctl.ssh.kept_output import KeptOutput, TooMuch
from vmctl.ssh.link import Link, OnLine
from vmctl.wait import Deadline

if TYPE_CHECKING:
    from paramiko import Channel, Transport

CONNECT_TIMEOUT = 15.0
CHANNEL_TIMEOUT = 90.0  # a starved guest starts programs late; a connection that is gone is noticed by itself
POLL = 0.1  # seconds between looks at the interrupt flag
CHUNK = 64 * 1024
NO_STATUS = -1  # paramiko's word for "none came"
BY_SIGNAL = 128  # our status for a command that a signal ended; paramiko does not pass on which
STRAGGLERS = 1.0  # seconds to wait for output that is still on its way once the command has ended


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
                details=in_words(error),
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
        status, out, err = self._asked(words, data, deadline, on_line)
        printed, errors = (raw.decode(errors="replace") for raw in (out, err))
        if status is None:  # the mark may not have come yet
            answer = login_shell.answer(printed)
            return None, printed if answer is None else answer, errors
        return status, login_shell.must_answer(self.name, printed, errors, f"vmctl ssh {self.name}"), errors

    def _asked(
        self, argv: Sequence[str], data: bytes | None, deadline: float | None, on_line: OnLine | None
    ) -> tuple[int | None, bytes, bytes]:
        import paramiko

        limit = None if deadline is None else Deadline.after(deadline)
        heard = login_shell.Lines(on_line) if on_line else None
        try:
            channel = self.transport.open_session(timeout=CHANNEL_TIMEOUT)
            channel.exec_command(login_shell.line(argv))
            return _communicate(channel, data, limit, heard, on_line)
        except TooMuch as error:
            raise VmctlError(
                f"{self.name}: a command does not stop printing", details=str(error), hint=f"vmctl ssh {self.name}"
            ) from error
        except (paramiko.SSHException, _Lost, EOFError, OSError) as error:
            raise Unreachable(
                f"{self.name}: the SSH connection broke", details=in_words(error), hint=f"vmctl status {self.name}"
            ) from error


class _Lost(Exception):
    """The connection ended before the command did."""


@dataclass
class _Lines:
    """Bytes in, whole lines out; one for each stream, so that lines never mix."""

    on_line: Callable[[str], None] | None
    kept: KeptOutput
    _rest: str = ""
    _decode: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def add(self, data: bytes) -> None:
        self.kept.add(data)
        if self.on_line:
            *lines, self._rest = (self._rest + self._decode.decode(data)).split("\n")
            if len(self._rest) > process.LONGEST_LINE:
                lines, self._rest = [*lines, self._rest], ""
            for line in lines:
                self.on_line(line.rstrip("\r"))

    def end(self) -> bytes:
        if self.on_line and self._rest:
            self.on_line(self._rest)
        return self.kept.content()


def _communicate(
    channel: Channel,
    data: bytes | None,
    deadline: Deadline | None,
    on_line: Callable[[str], None] | None,
    on_error_line: Callable[[str], None] | None,
) -> tuple[int | None, bytes, bytes]:
    """Status (None: the deadline passed first), standard output and standard error of the channel's command.

    Args:
        channel: on which the command was started.
        data: what it reads.
        deadline: when to give up.
        on_line: called with each line of its standard output as it comes.
        on_error_line: the same, of its standard error.

    Raises:
        _Lost: the connection ended first.
        Interrupted: the user asked to stop.
    """
    out, err = (_Lines(tell, KeptOutput(whole=tell is None)) for tell in (on_line, on_error_line))
    rest = memoryview(data or b"")
    closed_input = False
    try:
        while not _ended(channel):
            interrupt.check()
            if deadline is not None and deadline.passed:
                return None, out.end(), err.end()
            if rest:
                rest = _feed(channel, rest)
            if not rest and not closed_input:  # at once: what reads to the end waits for that
                channel.shutdown_write()
                closed_input = True
            _drain(channel, out, err, 0.0 if rest else POLL)
        return _status(channel, out, err)
    finally:
        channel.close()


def _ended(channel: Channel) -> bool:
    return channel.exit_status_ready()


def _feed(channel: Channel, rest: memoryview) -> memoryview:
    """Send a little; a command that stops reading loses the rest, as with a pipe."""
    channel.settimeout(POLL)
    try:
        return rest[channel.send(bytes(rest[:CHUNK])) :]
    except TimeoutError:
        return rest
    except OSError:
        return rest[:0]


def _drain(channel: Channel, out: _Lines, err: _Lines, timeout: float) -> bool:
    """Take what has come, waiting a moment for the first of it; whether there was anything."""
    ended = channel.eof_received or channel.closed
    if ended and not channel.recv_ready() and not channel.recv_stderr_ready():
        channel.status_event.wait(timeout)  # the streams are closed, only the status is to come
        return False
    select.select([channel], [], [], timeout)
    came = False
    while channel.recv_ready():
        out.add(channel.recv(CHUNK))
        came = True
    while channel.recv_stderr_ready():
        err.add(channel.recv_stderr(CHUNK))
        came = True
    return came


def _status(channel: Channel, out: _Lines, err: _Lines) -> tuple[int, bytes, bytes]:
    """The end: a background process may hold the streams open, so they are not waited for long."""
    limit = Deadline.after(STRAGGLERS)
    while not limit.passed:
        if not _drain(channel, out, err, POLL) and (channel.eof_received or channel.closed):
            break
    status = channel.recv_exit_status()
    if status == NO_STATUS:
        transport = channel.get_transport()
        transport.join(STRAGGLERS / 4)  # it ends its channels shortly before itself
        if not transport.is_active():
            raise _Lost("the connection ended before the command did")
        status = BY_SIGNAL
    return status, out.end(), err.end()
