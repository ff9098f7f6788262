"""Where something was written: for messages, which name it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class SourceLocation(Struct, frozen=True, kw_only=True):
    """Where in which file a value was written; lines and columns count from 1.

    A value that was not written in a file (a box's default, ``--set``) has line 0 and column 0.
    """

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Located(Struct, frozen=True, kw_only=True):
    """What says where it was written, in ``place`` or ``places``; equality and hash leave that out."""

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Located) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        values = (getattr(self, name) for name in self.__struct_fields__ if name not in {"place", "places"})
        return (type(self), *values)
