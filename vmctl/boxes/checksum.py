"""Checksums: as people write them and publishers list them, and checking them while data streams by."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmctl import interrupt
from vmctl.errors import UsageError, VmctlError

LENGTHS = {64: "sha256", 96: "sha384", 128: "sha512"}
WEAK = {"md5": 32, "sha1": 40}
"""Broken ones and their hex digits: taken where their name is written, for there are catalogues with no better."""
DIGITS = WEAK | {name: length for length, name in LENGTHS.items()}
LONGEST = 4096
CHUNK = 1024**2
TAGGED = re.compile(r"(?P<kind>[A-Za-z][\w-]*) ?\((?P<name>.+)\) ?= ?(?P<digest>[0-9a-fA-F]+)")
PLAIN = re.compile(r"\\?(?:(?P<kind>[A-Za-z][\w-]*)\s*+[:=]\s*+)?(?P<digest>[0-9a-fA-F]++)(?:\s++\*?(?P<name>.*))?")
"""What sha256sum prints, with --tag and without; the latter also with the algorithm before it."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file must hash to."""

    algorithm: str
    value: str

    @classmethod
    def parse(cls, text: str, kind: str = "") -> Checksum:
        """Read a checksum as people write it.

        That is "HEX", whose length tells the algorithm, "sha256:HEX", or a line of sha256sum: "HEX  FILE" or
        "SHA256 (FILE) = HEX".

        Args:
            text: the checksum.
            kind: the algorithm, where it is told apart from it; "" = ``text`` says it.

        Raises:
            UsageError: it is none of these, or contradicts itself.
        """
        found = line(text, kind)
        if found is None:
            raise UsageError(
                f"invalid checksum {text[:LONGEST]!r}" + (f" of the kind {kind!r}" if kind else ""),
                details="SHA-256, SHA-384 and SHA-512 are known, in hex: 64, 96 or 128 digits; md5:HEX, sha1:HEX.",
                hint="vmctl box add URL --checksum sha256:HEX",
            )
        return found[1]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


def line(text: str, kind: str = "") -> tuple[str, Checksum] | None:
    """The file's name ("" = not told) and the checksum that a line tells; None if it tells none."""
    text = text.strip()
    found = (TAGGED.fullmatch(text) or PLAIN.fullmatch(text)) if len(text) <= LONGEST else None
    if found is None:
        return None
    digest = found["digest"].lower()
    algorithms = {_algorithm(one) for one in (kind, found["kind"] or "") if one} or {LENGTHS.get(len(digest), "")}
    algorithm = algorithms.pop()
    if algorithms or DIGITS.get(algorithm) != len(digest):
        return None
    return (found["name"] or "").strip(), Checksum(algorithm, digest)


def _algorithm(kind: str) -> str:
    """The name of an algorithm that is spelled "SHA-256", "sha_256", "SHA2-256" or "sha256sum"."""
    word = re.sub(r"[^a-z0-9]", "", kind.lower()).removesuffix("sum")
    return re.sub(r"^sha2(?=\d{3}$)", "sha", word)


def in_list(text: str, file: str, *, where: str) -> Checksum:
    """The checksum of ``file`` in a publisher's list (SHA256SUMS and the like); the strongest, if there are several.

    A list that has one entry, and is named after the file ("disk.qcow2.sha256"), is about that file, whatever the
    entry calls it: publishers rename what they publish as "latest".

    Args:
        text: the list.
        file: name of the file, without a directory.
        where: URL or path of the list.

    Raises:
        VmctlError: the file is not in it, or with two different checksums.
    """
    lines = (entry for row in text.splitlines() if (entry := line(row)))
    entries = [(name, one) for name, one in lines if one.algorithm not in WEAK]
    found = {one for name, one in entries if posixpath.basename(name) == file}
    if not found and len(entries) == 1 and posixpath.basename(where).startswith(f"{file}."):
        found = {entries[0][1]}
    if not found:
        raise VmctlError(
            f"{where} has no checksum of {file}",
            details=f"it has {len(entries)} others" if entries else "it is not a list of checksums",
            hint="vmctl box add URL --checksum sha256:HEX",
        )
    return _strongest(found, file, where)


def _strongest(found: set[Checksum], file: str, where: str) -> Checksum:
    by_algorithm: Mapping[str, list[Checksum]] = {
        algorithm: [one for one in found if one.algorithm == algorithm] for algorithm in LENGTHS.values()
    }
    for same in by_algorithm.values():
        if len(same) > 1:
            raise VmctlError(f"{where} has two different checksums of {file}", hint="vmctl box add URL --checksum …")
    return max(found, key=lambda one: len(one.value))


class ChecksumMismatch(VmctlError):
    """A file is not the one that was promised."""


@dataclass
class Hashing:
    """Hashes data that streams by: SHA-256 always, and what the checksum asks for."""

    checksum: Checksum | None = None
    size: int = 0
    _hashes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = {"sha256", *([self.checksum.algorithm] if self.checksum else [])}
        self._hashes = {name: hashlib.new(name) for name in sorted(wanted)}

    def update(self, data: bytes) -> None:
        """Take the next piece."""
        self.size += len(data)
        for one in self._hashes.values():
            one.update(data)

    @property
    def sha256(self) -> str:
        """The digest of what came so far."""
        return str(self._hashes["sha256"].hexdigest())

    def verify(self, what: str) -> None:
        """Compare with the checksum, where there is one.

        Raises:
            ChecksumMismatch: they differ.
        """
        if self.checksum is None:
            return
        got = self._hashes[self.checksum.algorithm].hexdigest()
        if got != self.checksum.value:
            raise ChecksumMismatch(
                f"{what} does not have the checksum that was given",
                details=f"expected {self.checksum}\n     got {self.checksum.algorithm}:{got}",
                hint="compare with the publisher's list; a truncated or replaced file looks like this",
            )


def digest_of(path: Path) -> str:
    """Lower-case hex SHA-256 of a file.

    Raises:
        Interrupted: the user asked to stop.
    """
    hashing = Hashing()
    with path.open("rb") as stream:
        while data := stream.read(CHUNK):
            interrupt.check()
            hashing.update(data)
    return hashing.sha256
