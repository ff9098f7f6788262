"""Host ports, leased to machines for as long as they exist, across all projects of this user (``ports.json``).

A lease is what makes two machines never race for a port; ``host_ports`` tells whether some other program has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct, structs, to_builtins

from vmctl import interrupt
from vmctl.driver import Forward
from vmctl.errors import VmctlError
from vmctl.events import Report, ignore
from vmctl.layout import HomeLayout
from vmctl.spec import LOOPBACK, Port
from vmctl.store import carry, files, locks, places
from vmctl.store.host_ports import PortTaken, can_bind, in_use, is_let_go

SSH_RANGE = range(22000, 23000)
AUTO_RANGE = range(23000, 24000)  # both below Linux's ephemeral ports (32768 up)
WILDCARD = "0.0.0.0"  # noqa: S104  compared with, not bound unless the Vmfile says so


class Owner(Struct, frozen=True, kw_only=True):
    """The machine that a lease belongs to."""

    project: str
    root: str
    machine: str

    def is_same(self, other: Owner) -> bool:
        """Whether both are one machine; its project may have been moved in the meantime."""
        return (self.project, self.machine) == (other.project, other.machine)

    def __str__(self) -> str:
        return f"machine {self.machine} of {self.root}"


class Lease(Struct, frozen=True, kw_only=True):
    """One leased host port."""

    owner: Owner
    forward: Forward

    def same_port(self, forward: Forward) -> bool:
        """Whether both cannot be had at once."""
        mine = self.forward
        addresses = {mine.host_ip, forward.host_ip}
        return (mine.protocol, mine.host) == (forward.protocol, forward.host) and (
            len(addresses) == 1 or WILDCARD in addresses
        )


class Ports(Struct, frozen=True):
    """The leases of this user."""

    home: HomeLayout
    report: Report = ignore

    def lease(self, owner: Owner, wanted: Sequence[Port], *, ssh: int | None, running: bool) -> tuple[Forward, ...]:
        """Lease what a machine needs and return it; what it had before and still wants, it keeps.

        Args:
            owner: the machine.
            wanted: the Vmfile's ports; a host port of None is chosen here.
            ssh: the guest's port that a forward for SSH is added to; None = none is.
            running: the machine runs, so its own leases are bound by its own hypervisor.

        Raises:
            PortTaken: one or more ports belong to another machine or program; all are named. Nothing is changed.
        """
        with self._locked():
            leases = self._read()
            others = [lease for lease in leases if not lease.owner.is_same(owner)]
            mine = [lease.forward for lease in leases if lease.owner.is_same(owner)]
            forwards = _Allocation(owner, others, mine, running=running).allocate(wanted, ssh=ssh)
            self._write([*others, *(Lease(owner=owner, forward=forward) for forward in forwards)])
            return forwards

    def take_back(self, owner: Owner, forwards: Sequence[Forward], *, running: bool) -> None:
        """Lease exactly these, which a machine had once, in place of what it has now.

        Args:
            owner: the machine.
            forwards: what it needs again.
            running: as for ``lease``.

        Raises:
            PortTaken: one or more belong to somebody else by now. Nothing is changed.
        """
        with self._locked():
            leases = self._read()
            others = [lease for lease in leases if not lease.owner.is_same(owner)]
            mine = [lease.forward for lease in leases if lease.owner.is_same(owner)]
            if problems := _Allocation(owner, others, mine, running=running).problems(forwards):
                raise PortTaken(
                    f"host ports that machine {owner.machine} had then are taken",
                    details="\n".join(problems),
                    hint="free them, then run the command again",
                )
            self._write([*others, *(Lease(owner=owner, forward=forward) for forward in forwards)])

    @contextmanager
    def put_back_on_failure(self, owners: Sequence[Owner]) -> Iterator[None]:
        """Where the block fails, machines have the leases again that they had before it, and no others."""
        there = files.exists(self.home.ports)
        before = [lease for lease in self._read() if _is_of(lease, owners)]
        try:
            yield
        except BaseException:
            with interrupt.shielded(), self._locked():
                now = [*(lease for lease in self._read() if not _is_of(lease, owners)), *before]
                if now or there:
                    self._write(now)
                else:
                    files.remove(self.home.ports)
                    locks.remove(self._lock)
            raise

    def release(self, owner: Owner) -> None:
        """Give up all that a machine holds."""
        if not files.exists(self.home.ports):
            return
        with self._locked():
            self._write([lease for lease in self._read() if not lease.owner.is_same(owner)])

    @property
    def _lock(self) -> Path:
        return self.home.locks / "ports"

    def _locked(self) -> AbstractContextManager[None]:
        return locks.hold(self._lock, "the port leases", report=self.report)

    def _read(self) -> list[Lease]:
        rows = files.read_json(self.home.ports) or []
        try:
            leases = [Lease(owner=Owner(**row["owner"]), forward=Forward(**row["forward"])) for row in rows]
        except (TypeError, KeyError) as error:
            raise files.damaged(self.home.ports, f"{type(error).__name__}: {error}") from error
        return [lease for lease in leases if self._exists(lease.owner)]

    def _exists(self, owner: Owner) -> bool:
        """Whether the owner's project is still where it was; the leases of a deleted project are free again.

        One that cannot be asked (its record is damaged, its directory is out of reach) keeps what it has.
        """
        try:
            place = places.load(self.home, owner.project)
            return carry.waits(owner.project, owner.root, self.home) if place is None else place.is_there
        except (VmctlError, OSError):
            return True

    def _write(self, leases: Iterable[Lease]) -> None:
        files.write_json(self.home.ports, to_builtins(list(leases)))


def _is_of(lease: Lease, owners: Iterable[Owner]) -> bool:
    return any(lease.owner.is_same(owner) for owner in owners)


class _Allocation(Struct):
    """One machine's choice of ports, with what is taken."""

    owner: Owner
    others: list[Lease]
    mine: list[Forward]
    running: bool

    def allocate(self, wanted: Sequence[Port], *, ssh: int | None) -> tuple[Forward, ...]:
        chosen: list[Forward] = []
        problems: list[str] = []
        if ssh is not None:
            port = Port(guest=ssh, host=None, host_ip=LOOPBACK)
            chosen.append(self._choose("ssh", port, SSH_RANGE, chosen))
        for port in wanted:
            name = f"{port.protocol}{port.guest}"
            if port.host is None:
                chosen.append(self._choose(name, port, AUTO_RANGE, chosen))
                continue
            forward = _forward(name, port, port.host)
            problems += self._conflicts(forward)
            chosen.append(forward)
        if problems:
            raise PortTaken(
                f"host ports that machine {self.owner.machine} needs are taken",
                details="\n".join(problems),
                hint="free the port, or change it in the Vmfile (`auto:GUEST` takes any free one)",
            )
        return tuple(chosen)

    def problems(self, forwards: Sequence[Forward]) -> list[str]:
        """Which of these ports cannot be had, and why."""
        return [problem for forward in forwards for problem in self._conflicts(forward)]

    def _conflicts(self, forward: Forward) -> list[str]:
        where = f"{forward.host_ip}:{forward.host}/{forward.protocol}"
        for lease in self.others:
            if lease.same_port(forward):
                return [f"{where} belongs to {lease.owner}"]
        if not self._free(forward):
            return [in_use(forward)]
        return []

    def _free(self, forward: Forward) -> bool:
        if not self._had(forward):
            return can_bind(forward)
        return self.running or is_let_go(forward)

    def _had(self, forward: Forward) -> bool:
        return any(
            (old.host_ip, old.host, old.protocol) == (forward.host_ip, forward.host, forward.protocol)
            for old in self.mine
        )

    def _choose(self, name: str, port: Port, choices: range, chosen: Sequence[Forward]) -> Forward:
        kept = [
            old.host for old in self.mine if (old.name, old.host_ip) == (name, port.host_ip) and old.host in choices
        ]
        for number in [*kept, *choices]:
            forward = _forward(name, port, number)
            clash = any(Lease(owner=self.owner, forward=other).same_port(forward) for other in chosen)
            if not clash and not any(lease.same_port(forward) for lease in self.others) and self._free(forward):
                return forward
        raise PortTaken(
            f"no free host port from {choices[0]} to {choices[-1]} is left for machine {self.owner.machine}",
            hint="vmctl list",
        )


def _forward(name: str, port: Port, number: int) -> Forward:
    return Forward(name=name, guest=port.guest, host=number, host_ip=port.host_ip, protocol=port.protocol)


def as_objects(forwards: Iterable[Forward]) -> list[dict[str, Any]]:
    """Forwards for JSON output."""
    return [structs.asdict(forward) for forward in forwards]
