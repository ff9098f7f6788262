"""When a transfer that broke off is tried again."""

from __future__ import annotations

from vmctl.boxes.retries import LONGEST_PAUSE, Retries


def test_a_transfer_that_gets_nowhere_is_given_up_after_longer_and_longer_pauses() -> None:
    retries = Retries(tries=4, first_pause=1.0)
    assert [retries.pause(0, None) for _ in range(4)] == [1.0, 2.0, 4.0, None]


def test_one_that_gets_further_goes_on_for_as_long_as_it_takes() -> None:
    retries = Retries(10, tries=2, first_pause=1.0)
    assert [retries.pause(reached, None) for reached in (11, 12, 40)] == [1.0] * 3
    assert retries.pause(30, None) is None, "what was there before is not new"


def test_a_server_may_ask_for_more_patience_but_not_for_any() -> None:
    retries = Retries(first_pause=1.0)
    assert retries.pause(0, 7.0) == 7.0
    assert retries.pause(0, 0.5) == 2.0
    assert retries.pause(0, LONGEST_PAUSE + 1) is None
