"""Publishers' lists of checksums: SHA256SUMS and the like, in GNU's form, BSD's, or a bare digest."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from vmctl.boxes import checksum
from vmctl.boxes.checksum import LENGTHS, WEAK, Checksum
from vmctl.errors import VmctlError


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
    told = (entry for line in text.splitlines() if (entry := checksum.line(line)))
    entries = [(name, one) for name, one in told if one.algorithm not in WEAK]
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
