"""Sizes and times for people."""

import pytest

from vmctl import units


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "just now"), (59, "just now"), (60, "1 min ago"), (3599, "59 min ago"), (3600, "1 h ago"),
     (47.9 * 3600, "47 h ago"), (48 * 3600, "2 days ago")],
)  # fmt: skip
def test_how_long_ago(seconds: float, shown: str) -> None:
    assert units.ago(seconds) == shown
