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
