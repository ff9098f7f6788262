"""Looking for an SSH server, as quickly as the network allows and without ever hanging on one try.

User-mode NAT accepts connections itself long before the guest listens, and a connection made while the guest's
network was down may stay silent for seconds after it is up. So a silent try is not waited for alone: a new one starts
beside it every second, and the first that shows an SSH banner wins.

Once the guest has booted, or has refused a connection, silence means that its server is slow, and each try costs that
guest a process of sshd's: new ones then come ever more rarely, and old ones are given time. Otherwise a slow guest
would never answer any of them. Those that were silent before it refused one never reached it, and would do so now.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from vmctl.driver import Address
from vmctl.wait import Clock, SystemClock, pauses

BANNER = b"SSH-"
BUSY = (b"Exceeded MaxStartups", b"Not allowed at this time")
"""What OpenSSH says in place of its banner while too many connections (ours, to a slow guest) wait to log in."""
PEEK = 255
STAGGER = 1.0  # seconds between a silent try and the next one beside it
LIFETIME = 8.0  # seconds that one try may stay silent
PATIENT_LIFETIME = 90.0  # … once the guest has booted
RARELY = 16.0  # seconds between tries at the most, then
RESPITE = 1.0  # seconds without a new try after the server said that there are too many
SLICE = 0.05  # seconds of waiting between looks


class Stage(IntEnum):
    """How far a try got."""

    ADDRESS = 0
    CONNECT = 1
    BANNER = 2
    LOGIN = 3


@dataclass
class _Try:
    sock: socket.socket
    started: float
    connected: bool = False


@dataclass
class Prober:
    """Tries one address; ``poll`` often, ``close`` at the end."""

    clock: Clock = field(default_factory=SystemClock)
    stage: Stage = Stage.ADDRESS
    """How far the latest try that told anything got."""
    stranger: str = ""
    """What answered instead of an SSH server, if anything did."""
    busy: bool = False
    """Whether an SSH server said at last that it takes nobody, or us, right now."""
    booted: bool = False
    """Whether the guest is known to have booted; for the user of this class to set."""
    early: bool = False
    """Whether its SSH server is known not to be started yet; likewise. Tries are rare then: those that come before the
    guest's network is up are not lost, but reach the server all at once when it is there."""
    _refuses: bool = False
    """Whether the guest's network is up: it has refused a connection."""
    _tries: list[_Try] = field(default_factory=list)
    _stagger: float = STAGGER
    _pauses: Iterator[float] = field(default_factory=pauses)
    _not_before: float = 0.0

    def poll(self, address: Address) -> socket.socket | None:
        """Look for a moment (50 ms at most); the connection whose server has sent its SSH banner, or None."""
        now = self.clock.monotonic()
        lifetime = PATIENT_LIFETIME if self._is_patient else LIFETIME
        for old in [one for one in self._tries if now - one.started > lifetime]:
            self._drop(old)
        if self._is_due(now):
            self._start(address, now)
        if not self._tries:
            self.clock.sleep(SLICE)
            return None
        return self._answered()

    def close(self) -> None:
        """Forget all tries."""
        for one in list(self._tries):
            self._drop(one)

    @property
    def _is_patient(self) -> bool:
        return self.booted or self._refuses

    def _is_due(self, now: float) -> bool:
        if not self._tries:
            return now >= self._not_before
        stagger = LIFETIME if self.early else self._stagger
        return now - max(one.started for one in self._tries) >= stagger

    def _start(self, address: Address, now: float) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(0)
        try:
            code = sock.connect_ex((address.host, address.port))
        except OSError as error:  # a name that does not resolve
            code = error.errno or errno.EHOSTUNREACH
        one = _Try(sock, now)
        self._tries.append(one)
        self._stagger = min(2 * self._stagger, RARELY) if self._is_patient else STAGGER
        if code not in (0, errno.EINPROGRESS):
            self._failed(one, Stage.CONNECT)

    def _answered(self) -> socket.socket | None:
        connecting = [one.sock for one in self._tries if not one.connected]
        connected = [one.sock for one in self._tries if one.connected]
        readable, writable, _ = select.select(connected, connecting, [], SLICE)
        for one in [one for one in self._tries if one.sock in writable]:
            if one.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._failed(one, Stage.CONNECT)
            else:
                one.connected = True
                self.stage = max(self.stage, Stage.BANNER)
        for one in [one for one in self._tries if one.sock in readable]:
            if one in self._tries and self._speaks_ssh(one):
                self._tries.remove(one)
                self.close()
                one.sock.settimeout(None)
                return one.sock
        return None

    def _speaks_ssh(self, one: _Try) -> bool:
        try:
            received = one.sock.recv(PEEK, socket.MSG_PEEK)
        except OSError:
            received = b""
        if received.startswith(BANNER):
            self.stage, self.stranger, self.busy = Stage.LOGIN, "", False
            return True
        if received and BANNER.startswith(received):
            self.clock.sleep(SLICE)  # the rest is on its way
            return False
        if received.startswith(BUSY):
            self._failed(one, Stage.BANNER)
            self._not_before += RESPITE
            self.busy = True
            return False
        self.stranger = received.decode("ascii", "replace").split("\n")[0].strip()
        self._failed(one, Stage.BANNER)
        if not received:
            self._refused(one.started)
        return False

    def _refused(self, started: float) -> None:
        """The guest refused a try: its network is up, and what is older than that never reached it."""
        self._refuses, self._stagger = True, STAGGER
        for older in [other for other in self._tries if other.started < started]:
            self._drop(older)

    def _failed(self, one: _Try, stage: Stage) -> None:
        self.stage, self.busy = stage, False
        self._not_before = self.clock.monotonic() + next(self._pauses)
        self._drop(one)

    def _drop(self, one: _Try) -> None:
        self._tries.remove(one)
        with contextlib.suppress(OSError):
            one.sock.close()
