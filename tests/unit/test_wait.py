import pytest

from vmctl import interrupt
from vmctl.errors import Interrupted
from vmctl.wait import Deadline, TimedOut, pauses, until


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_returns_the_first_true_answer() -> None:
    clock = FakeClock()
    answers = iter([None, False, "found", "never asked"])
    assert until(lambda: next(answers), Deadline.after(10, clock), "it") == "found"
    assert clock.slept == [0.05, pytest.approx(0.075)]


def test_probes_once_even_when_the_deadline_has_passed() -> None:
    clock = FakeClock()
    assert until(lambda: 7, Deadline.after(0, clock), "it") == 7
    assert clock.slept == []


def test_times_out_with_what_and_hint_and_never_sleeps_past_the_deadline() -> None:
    clock = FakeClock()
    with pytest.raises(TimedOut, match="timed out waiting for the moon") as caught:
        until(lambda: None, Deadline.after(1.0, clock), "the moon", hint="look up")
    assert caught.value.hint == "look up"
    assert clock.now == pytest.approx(101.0)


def test_pauses_grow_from_50_to_250_ms() -> None:
    first = [pause for pause, _ in zip(pauses(), range(8), strict=False)]
    assert first[0] == 0.05
    assert first == sorted(first)
    assert first[-1] == 0.25


def test_a_probes_exception_ends_the_wait() -> None:
    def probe() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        until(probe, Deadline.after(10, FakeClock()), "it")


def test_an_interrupt_ends_the_wait(clean_interrupt: None) -> None:
    interrupt.request()
    with pytest.raises(Interrupted):
        until(lambda: True, Deadline.after(10, FakeClock()), "it")
