"""Publishers' lists of checksums: SHA256SUMS and the like, in GNU's form, BSD's, or a bare digest."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from vmctl.boxes.checksum import LENGTHS, Checksum
from vmctl.errors import VmctlError

GNU = re.compile(r"(?P<digest>[0-9a-fA-F]{64,128})(?:\s+[ *]?(?P<name>\S.*))?")
BSD = re.compile(r"(?P<algorithm>SHA(?:256|384|512)) ?\((?P<name>[^()]+)\) ?= ?(?P<digest>[0-9a-fA-F]{64,128})")


def find(text: str, file: str, *, where: str) -> Checksum:
    """The checksum of ``file`` in a list; the strongest, if there are several.

    A list that has one entry, and is named after the file ("disk.qcow2.sha256"), is about that file, whatever the
    entry calls it: publishers rename what they publish as "latest".

    Args:
        text: the list.
        file: name of the file, without a directory.
        where: URL or path of the list.

    Raises:
        VmctlError: the file is not in it, or with two different checksums.
    """
    entries = [entry for line in text.splitlines() if (entry := _entry(line.strip()))]
    found = {checksum for name, checksum in entries if posixpath.basename(name) == file}
    if not found and len(entries) == 1 and posixpath.basename(where).startswith(f"{file}."):
        found = {entries[0][1]}
    if not found:
        raise VmctlError(
            f"{where} has no checksum of {file}",
            details=f"it has {len(entries)} others" if entries else "it is no list of checksums",
            hint="vmctl box add URL --checksum sha256:HEX",
        )
    return _strongest(found, file, where)


def _entry(line: str) -> tuple[str, Checksum] | None:
    match = BSD.fullmatch(line) or GNU.fullmatch(line)
    algorithm = LENGTHS.get(len(match["digest"])) if match else None
    if match is None or algorithm is None:
        return None
    return match["name"] or "", Checksum(algorithm, match["digest"].lower())


def _strongest(found: set[Checksum], file: str, where: str) -> Checksum:
    by_algorithm: Mapping[str, list[Checksum]] = {
        algorithm: [one for one in found if one.algorithm == algorithm] for algorithm in LENGTHS.values()
    }
    for same in by_algorithm.values():
        if len(same) > 1:
            raise VmctlError(f"{where} has two different checksums of {file}", hint="vmctl box add URL --checksum …")
    return max(found, key=lambda one: len(one.value))
