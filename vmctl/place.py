"""Where something was written: for messages, which name it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where in which file a value was written; lines and columns count from 1.

    A value that was not written in a file (a box's default, ``--set``) has line 0 and column 0.
    """

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file
