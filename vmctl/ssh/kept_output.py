"""How much of what a host prints is kept: a guest may print without end, and this host has to go on."""

from __future__ import annotations

from collections import deque

MOST = 64 * 1024**2
"""Bytes of an answer that is needed as a whole."""
END = 1024**2
"""Bytes of the beginning and of the end that are kept of what is told line by line."""


class TooMuch(Exception):
    """An answer is longer than any that makes sense. A caller that knows whose it is turns this into its error."""


class KeptOutput:
    """One stream of a program, as far as it is kept."""

    def __init__(self, *, whole: bool) -> None:
        """``whole``: all of it is needed; else its beginning and its end are enough."""
        self._whole = whole
        self._first: list[bytes] = []
        self._last: deque[bytes] = deque()
        self._sizes = [0, 0]
        self._is_cut = False

    def add(self, data: bytes) -> None:
        """Take in more.

        Raises:
            TooMuch: it is needed as a whole, and has no end.
        """
        if self._whole or self._sizes[0] < END:
            self._first.append(data)
            self._sizes[0] += len(data)
            if self._whole and self._sizes[0] > MOST:
                raise TooMuch(f"it printed more than {MOST} bytes")
            return
        self._last.append(data)
        self._sizes[1] += len(data)
        while self._sizes[1] - len(self._last[0]) >= END:
            self._sizes[1] -= len(self._last.popleft())
            self._is_cut = True

    def content(self) -> bytes:
        """What is kept; a line in the middle tells where something is not."""
        return b"".join([*self._first, b"\n[...]\n" if self._is_cut else b"", *self._last])
