"""Checksums: how they are written on the command line, and checking them while data streams by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from vmctl.errors import UsageError, VmctlError

LENGTHS = {64: "sha256", 96: "sha384", 128: "sha512"}
WEAK = {"md5": 32, "sha1": 40}
"""Broken ones and their hex digits: taken where their name is written, for there are catalogues with no better."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file must hash to."""

    algorithm: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """Read "sha256:HEX" or bare hex, whose length tells the algorithm.

        Raises:
            UsageError: it is neither.
        """
        prefix, colon, rest = text.strip().partition(":")
        value = (rest if colon else prefix).strip().lower()
        algorithm = LENGTHS.get(len(value)) if re.fullmatch(r"[0-9a-f]+", value) else None
        if colon and len(value) == WEAK.get(prefix.strip().lower()):
            algorithm = prefix.strip().lower()
        if algorithm is None or (colon and prefix.strip().lower() != algorithm):
            raise UsageError(
                f"{text!r} is no checksum",
                details="SHA-256, SHA-384 and SHA-512 are known, in hex: 64, 96 or 128 digits; md5:HEX, sha1:HEX.",
                hint="vmctl box add URL --checksum sha256:HEX",
            )
        return cls(algorithm, value)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


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

    def feed(self, pieces: Iterable[bytes]) -> None:
        """Take all pieces."""
        for piece in pieces:
            self.update(piece)

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
