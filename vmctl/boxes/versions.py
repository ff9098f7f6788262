"""Versions and constraints, ordered as RubyGems does (Vagrant's boxes are numbered that way).

A version is a dot-separated list of numbers and words ("1.2.0", "20260131", "2.0.beta.1"); a "-" starts a pre-release
("1.0-rc1" is before "1.0"). Trailing zeros do not count: 1.0 equals 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import total_ordering

from vmctl.errors import UsageError

LONGEST = 100
VERSION = re.compile(r"\s*[0-9]+(\.[0-9a-zA-Z]+)*(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?\s*")
CLAUSE = re.compile(r"\s*(=|!=|>=|<=|~>|>|<)?\s*(\S+)\s*")
SEGMENT = re.compile(r"[0-9]+|[a-zA-Z]+")

Segments = tuple[int | str, ...]


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """One version; compares as RubyGems compares."""

    text: str

    def __post_init__(self) -> None:
        if len(self.text) > LONGEST or not VERSION.fullmatch(self.text):
            raise UsageError(f"invalid version {self.text[:LONGEST]!r}", hint="write numbers with dots between: 1.2.0")

    @property
    def segments(self) -> Segments:
        """The parts that count."""
        parts = SEGMENT.findall(self.text.strip().replace("-", ".pre."))
        return tuple(int(part) if part.isdigit() else part for part in parts)

    @property
    def is_prerelease(self) -> bool:
        """Whether a letter marks it as coming before a release."""
        return any(isinstance(part, str) for part in self.segments)

    @property
    def release(self) -> Version:
        """The release that a pre-release leads to; itself for a release."""
        parts: list[str] = []
        for part in self.segments:
            if isinstance(part, str):
                break
            parts.append(str(part))
        return Version(".".join(parts))

    @property
    def bump(self) -> Version:
        """The first version that ``~>`` of this one excludes: 1.1.5 → 1.2, 1.0 → 2, 3 → 4."""
        numbers = [part for part in self.release.segments if isinstance(part, int)]
        kept = numbers[:-1] or numbers
        return Version(".".join(str(part) for part in [*kept[:-1], kept[-1] + 1]))

    def _canonical(self) -> Segments:
        """Without the zeros that end the release part and the whole."""
        parts = list(self.segments)
        words = [index for index, part in enumerate(parts) if isinstance(part, str)]
        cut = words[0] if words else len(parts)
        return (*_without_zeros(parts[:cut]), *_without_zeros(parts[cut:]))

    def _key(self) -> tuple[tuple[int, int, str], ...]:
        """Words sort before the end, the end before numbers (which are above 0 there, or not last)."""
        return tuple((-1, 0, part) if isinstance(part, str) else (1, part, "") for part in self._canonical())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._canonical() == other._canonical()

    def __hash__(self) -> int:
        return hash(self._canonical())

    def __lt__(self, other: Version) -> bool:
        mine, theirs = self._key(), other._key()
        width = max(len(mine), len(theirs))
        padding = ((1, 0, ""),)  # a missing part counts as 0
        return mine + padding * (width - len(mine)) < theirs + padding * (width - len(theirs))

    def __str__(self) -> str:
        return self.text.strip()


def _without_zeros(parts: list[int | str]) -> list[int | str]:
    while parts and parts[-1] == 0:
        parts = parts[:-1]
    return parts


TESTS: dict[str, Callable[[Version, Version], bool]] = {
    "=": lambda version, wanted: version == wanted,
    "!=": lambda version, wanted: version != wanted,
    ">": lambda version, wanted: version > wanted,
    "<": lambda version, wanted: version < wanted,
    ">=": lambda version, wanted: version >= wanted,
    "<=": lambda version, wanted: version <= wanted,
    "~>": lambda version, wanted: version >= wanted and version.release < wanted.bump,
}


@dataclass(frozen=True, slots=True)
class Constraint:
    """Comma-joined clauses that must all hold; none = any version."""

    clauses: tuple[tuple[str, Version], ...]

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read ">=1.0,<2"; a bare version means "=".

        Raises:
            UsageError: it makes no sense.
        """
        return cls(tuple(_clause(part, text) for part in text.split(",")) if text.strip() else ())

    def allows(self, version: Version) -> bool:
        """Whether ``version`` satisfies all clauses. A pre-release only counts where a clause names one."""
        if version.is_prerelease and not any(wanted.is_prerelease for _, wanted in self.clauses):
            return False
        return all(TESTS[operator](version, wanted) for operator, wanted in self.clauses)


def _clause(part: str, whole: str) -> tuple[str, Version]:
    match = CLAUSE.fullmatch(part)
    if match is None or len(match[2]) > LONGEST or not VERSION.fullmatch(match[2]):
        raise UsageError(
            f"invalid version constraint {part.strip()!r} in {whole!r}", hint="vmctl box list   # shows the versions"
        )
    return match[1] or "=", Version(match[2])
