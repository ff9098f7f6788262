"""What is wrong with a Vmfile: every fault with its place, collected and raised together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from msgspec import Struct, field

from vmctl import __version__
from vmctl.errors import UsageError, suggest
from vmctl.spec import SourceLocation

MOST_NAMED = 10


class Fault(Struct, frozen=True):
    """One thing that is wrong."""

    path: str
    """Dotted ("machines.web.memory"; "" = the whole file); what a provider finds begins below the machine
    ("libvirt.cpu")."""
    message: str
    place: SourceLocation = SourceLocation(file="")

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.place), self.path, self.message) if part)

    def to_json(self) -> dict[str, Any]:
        """The fault for programs."""
        place = self.place
        return {
            "file": place.file, "line": place.line, "column": place.column, "path": self.path, "message": self.message,
        }  # fmt: skip


class VmfileInvalid(UsageError):
    """A Vmfile that cannot be obeyed; ``faults`` holds everything that is wrong, sorted by place."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        lines = [str(fault) for fault in self.faults]
        brief = lines[0] if len(lines) == 1 else f"the Vmfile has {len(lines)} faults"
        super().__init__(brief, details="" if len(lines) == 1 else "\n".join(lines))
        self.data["faults"] = [fault.to_json() for fault in self.faults]


class Rejected(Exception):
    """A value cannot be used. Whoever raises this has recorded why; it never leaves ``vmctl.vmfile``."""


class Faults(Struct):
    """The faults found so far. The same fault at the same place is kept once."""

    found: dict[tuple[SourceLocation, str, str], Fault] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    """The order of files in messages: by first appearance here."""

    def add(self, place: SourceLocation, path: str, message: str) -> None:
        """Record a fault."""
        self.found.setdefault((place, path, message), Fault(place=place, path=path, message=message))

    def reject(self, place: SourceLocation, path: str, message: str) -> NoReturn:
        """Record a fault and give up the value that is being read."""
        self.add(place, path, message)
        raise Rejected

    def raise_any(self) -> None:
        """Raise ``VmfileInvalid`` when anything was found."""
        if self.found:
            raise VmfileInvalid(sorted(self.found.values(), key=self._order))

    def _order(self, fault: Fault) -> tuple[int, str, int, int]:
        place = fault.place
        return self.ranks.get(place.file, len(self.ranks)), place.file, place.line, place.column


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What is wrong with a key that is not known: misspelt, or from a Vmfile for a newer vmctl."""
    near = suggest(key, known)
    return f"unknown key{near or f' to vmctl {__version__}; if it is spelt right, it needs a newer one'}"


def advise(word: str, known: Iterable[str]) -> str:
    """As ``suggest``; where no known word is near, all of them are named, unless they are many."""
    words = list(known)
    return suggest(word, words) or (f"; there are {', '.join(words)}" if 0 < len(words) <= MOST_NAMED else "")


def describe(value: Any) -> str:
    """What was found instead of what was expected, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"'{shorten(value)}'"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


def shorten(text: str, longest: int = 60) -> str:
    """``text`` on one line, cut where it is long."""
    line = text.replace("\n", "\\n")
    return line if len(line) <= longest else line[: longest - 1] + "…"
