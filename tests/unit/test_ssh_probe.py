from __future__ import annotations

import socket
from dataclasses import dataclass

import pytest

from vmctl.driver import Address
from vmctl.ssh import probe
from vmctl.ssh.probe import Prober


@dataclass
class Clock:
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("booted", "tries"), [(False, [float(second) for second in range(40)]), (True, [0.0, 2.0, 6.0, 14.0, 30.0])]
)
def test_a_guest_that_has_booted_is_not_asked_ever_more_while_it_is_slow(
    *, booted: bool, tries: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "SLICE", 0.0)
    clock, started = Clock(), []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        prober = Prober(clock, booted=booted)
        for second in range(40):
            clock.now = float(second)
            assert prober.poll(Address(host="127.0.0.1", port=silent.getsockname()[1])) is None
            started += [one.started for one in prober._tries if one.started not in started]
        alive = [one.started for one in prober._tries]
        prober.close()
    assert started == tries
    assert alive == (tries if booted else tries[-9:])


def test_what_a_guest_never_saw_is_forgotten_once_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would be another process of its sshd's: the hypervisor's network sends again what got no answer."""
    monkeypatch.setattr(probe, "SLICE", 0.1)
    clock, started = Clock(), []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as guest:
        address = Address(host="127.0.0.1", port=guest.getsockname()[1])
        prober = Prober(clock)
        for second in range(4):  # silent: its network is down
            clock.now = float(second)
            prober.poll(address)
        connections = [guest.accept()[0] for _ in range(4)]
        connections[-1].close()
        prober.poll(address)
        assert [connection.recv(1) for connection in connections[:-1]] == [b""] * 3
        assert prober._tries == []
        for second in range(5, 30):  # silent: its server takes long to start a process
            clock.now = float(second)
            prober.poll(address)
            started += [one.started for one in prober._tries if one.started not in started]
        prober.close()
        for connection in connections:
            connection.close()
    assert started == [5.0, 7.0, 11.0, 19.0]
