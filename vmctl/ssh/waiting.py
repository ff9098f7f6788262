"""Waiting for a booting machine's SSH: address → TCP → banner → logged in, under one deadline.

Gives up before the deadline only on proof: the machine is off, its console shows that the boot has ended badly, or
booting is over and the same obstacle has stood there for a while since. An emulated guest may need minutes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vmctl import interrupt
from vmctl.driver import Address
from vmctl.errors import Unreachable
from vmctl.events import Progress, Report
from vmctl.login import Login
from vmctl.ssh import handshake
from vmctl.ssh.connection import Connection
from vmctl.ssh.probe import SLICE, Prober, Stage
from vmctl.ssh.serial import GuestNetwork, SerialConsole
from vmctl.wait import Deadline

STEP = "await_ssh"
OBSERVE_EVERY = 1.0  # seconds between looks at the console, and at least between questions to the hypervisor
LISTEN = 0.2  # … while the console is to tell when the SSH server starts
REST = 10.0  # times as long as the last ones took until the next: VBoxManage takes a processor for half a second
HANDSHAKE = 30.0  # seconds for one login; an emulated guest needs several
LOGIN_PAUSE = 1.0  # seconds after a login that failed
REFUSED_PAUSE = 6.0  # … after a second refusal: OpenSSH from 9.8 on shuts out who fails every 5 s or oftener
SURE = 15.0  # seconds that an obstacle must stand once the console says that booting is over
UNSURE = 60.0  # … while it only looks so
SLOWNESS = 0.5  # … and this part of the time that booting took: a slow guest starts its network as slowly


def await_ssh(
    *,
    machine: str,
    address: Callable[[], Address | None],
    login: Callable[[Address], Login],
    alive: Callable[[], bool],
    deadline: Deadline,
    console: Path,
    report: Report,
    tells: bool = False,
    booted: bool = False,
) -> Connection:
    """Wait until a machine lets us in, and return the connection.

    Args:
        machine: its name, for messages and events.
        address: where SSH answers, as far as the hypervisor knows.
        login: how to log in at an address.
        alive: whether the machine is still on.
        deadline: when to give up in any case.
        console: its serial console's output.
        report: told once a second how far it is.
        tells: whether the machine was started just now, and its console tells when its SSH server is.
        booted: whether its guest is known to have booted, whatever its console says.

    Raises:
        Unreachable: with the stage that was reached, the console's last lines and what to do.
        Interrupted: the user asked to stop.
    """
    waiter = _Waiter(
        machine=machine, address=address, login=login, alive=alive, deadline=deadline,
        console=SerialConsole(console), report=report, tells=tells, booted=booted,
    )  # fmt: skip
    try:
        return waiter.run()
    finally:
        waiter.prober.close()


@dataclass
class _Waiter:
    machine: str
    address: Callable[[], Address | None]
    login: Callable[[Address], Login]
    alive: Callable[[], bool]
    deadline: Deadline
    console: SerialConsole
    report: Report
    tells: bool
    booted: bool
    prober: Prober = field(init=False)
    total: float = field(init=False)
    known: Address | None = None
    error: Unreachable | None = None
    """Why the latest login failed; None once a try did not get that far, unless the server is tired of us."""
    _refused: bool = False
    """Whether the guest has refused a login already."""
    _obstacle: str = ""
    _since: float = 0.0
    _observed_at: float | None = None
    _listened: float = 0.0
    _starts: int = 0
    """How many starts of an SSH server the console showed before this one."""
    _ask_at: float = 0.0
    """When the hypervisor is asked again."""
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self.prober = Prober(self.deadline.clock)
        self._began = self.deadline.clock.monotonic()
        self.total = self.deadline.left()
        self.console.read()
        self._starts = self.console.ssh_starts
        self.prober.early, self.prober.booted = self.tells, self.booted

    def run(self) -> Connection:
        import paramiko  # noqa: F401  loading takes a moment: now, while the guest boots

        while True:
            interrupt.check()
            self._listen()
            self._observe()
            if connection := self._try():
                return connection
            if self.deadline.passed:
                raise self._unreachable(f"no SSH within {self.total:.0f} s: {self._state()}")

    def _listen(self) -> None:
        """Hear the SSH server start, where the console tells."""
        now = self.deadline.clock.monotonic()
        if self.prober.early and now - self._listened >= LISTEN:
            self._listened = now
            self.console.read()
            self._starts = min(self._starts, self.console.ssh_starts)  # a new log has none
            self.prober.early = self.console.ssh_starts == self._starts

    def _observe(self) -> None:
        """Once a second: read the console, end a hopeless wait, and mostly ask the hypervisor."""
        now = self.deadline.clock.monotonic()
        if self._observed_at is not None and now - self._observed_at < OBSERVE_EVERY:
            return
        self._observed_at = now
        self.report(Progress(machine=self.machine, step=STEP, done=self.total - self.deadline.left(), unit="seconds"))
        self.console.read()
        self.prober.booted = self.booted or self.console.booted or self.console.prompts
        if fatal := self.console.fatal():
            raise self._unreachable(fatal)
        if now >= self._ask_at:
            self._ask(now)
        if self._is_hopeless(now):
            raise self._unreachable(self._state())

    def _ask(self, now: float) -> None:
        """Ask the hypervisor whether the machine is still on, and where it is."""
        if not self.alive():
            raise self._unreachable("it went off before SSH answered")
        self.known = self.address() or self.known
        self._ask_at = now + REST * (self.deadline.clock.monotonic() - now)

    def _try(self) -> Connection | None:
        if self.known is None:
            self.deadline.clock.sleep(SLICE)
            self.known = self.address()
            return None
        sock = self.prober.poll(self.known)
        if sock is None:
            if self.prober.stage is not Stage.LOGIN and not self.prober.busy:
                self.error = None
            return None
        return self._log_in(self.login(self.known), sock)

    def _log_in(self, login: Login, sock: socket.socket) -> Connection | None:
        limit = Deadline(min(self.deadline.at, self.deadline.clock.monotonic() + HANDSHAKE), self.deadline.clock)
        try:
            return Connection(login, handshake.authenticated(login, sock, limit))
        except Unreachable as error:
            self.error = error
        pause = LOGIN_PAUSE
        if isinstance(self.error, handshake.LoginRefused):
            pause, self._refused = REFUSED_PAUSE if self._refused else LOGIN_PAUSE, True
        self.deadline.clock.sleep(min(pause, self.deadline.left()))
        return None

    def _is_hopeless(self, now: float) -> bool:
        """Whether the same obstacle has stood for long enough, for what the console shows."""
        evidence = "booted" if self.console.booted else "prompts" if self.console.prompts else ""
        explained = isinstance(self.error, handshake.HostKeyWrong | handshake.LoginRefused) or self.prober.stranger
        cause = type(self.error).__name__ if self.error else self.prober.stranger and "stranger"
        obstacle = f"{cause} {evidence}" if evidence or explained else ""
        if obstacle != self._obstacle:
            self._obstacle, self._since = obstacle, now
        patience = max(SURE if evidence == "booted" else UNSURE, SLOWNESS * (self._since - self._began))
        return bool(obstacle) and now - self._since >= patience

    def _state(self) -> str:
        """How far it got, as a clause."""
        network = GuestNetwork.read(self.console.boot)
        on_console = f"; on its console: {network}" if str(network) else ""
        if self.known is None:
            return f"it has no address{on_console}"
        where = f"{self.known.host}:{self.known.port}"
        if self.error is not None:
            return self.error.brief.removeprefix(f"{self.machine}: ")
        if self.prober.stranger:
            return f"something else than SSH answers on {where} ({self.prober.stranger[:60]!r})"
        booted = "the guest has booted, but " if self.console.booted or self.console.prompts else ""
        if network.is_down:
            return f"{booted}its network has not come up, so nothing answers on {where}{on_console}"
        return f"{booted}no SSH server answers on {where}{on_console}"

    def _unreachable(self, what: str) -> Unreachable:
        self.console.read()
        tail = self.console.tail()
        shown = f"The last lines of its serial console:\n{tail}" if tail else "Its serial console shows nothing."
        seed = f"The guest says of its seed: {self.console.of_seed}" if self.console.of_seed else ""
        details = "\n".join(part for part in (seed or (self.error.details if self.error else ""), shown) if part)
        hint = self.error.hint if self.error and self.error.hint else f"vmctl logs {self.machine}"
        return Unreachable(f"{self.machine}: {what}", details=details, hint=hint)
