"""When a transfer that broke off is tried again: soon at first, then later and later, and not for ever."""

from __future__ import annotations

TRIES = 5
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 120.0
"""A server may ask for more patience than this; then the user decides."""
AGAIN_HINT = "run the command again; it goes on from where this one ended"


class Retries:
    """Counts the failures of one transfer that bring nothing new."""

    def __init__(self, reached: int = 0, *, tries: int = TRIES, first_pause: float | None = None) -> None:
        """Begin to count.

        Args:
            reached: bytes that are there already.
            tries: how many in a row may bring nothing new.
            first_pause: seconds before the second try.
        """
        self._furthest = reached
        self._tries = tries
        self._first_pause = self._pause = FIRST_PAUSE if first_pause is None else first_pause
        self._failures = 0

    def pause(self, reached: int, asked: float | None) -> float | None:
        """Seconds until the next try, after one that failed; None = that was the last.

        Args:
            reached: bytes that are there now; a try that came further than any before counts as the first.
            asked: seconds that the server asks for (Retry-After).
        """
        self._failures = 1 if reached > self._furthest else self._failures + 1
        self._furthest = max(self._furthest, reached)
        self._pause = self._first_pause if self._failures == 1 else self._pause * 2
        asked = asked or 0.0
        return None if self._failures >= self._tries or asked > LONGEST_PAUSE else max(self._pause, asked)
