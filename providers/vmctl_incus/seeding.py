"""The seed of a machine, put into its instance before it starts.

A container has no disk to read one from: the unit ``vmctl-seed`` of vmctl's boxes takes the ready-made files from an
archive there.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from vmctl import iso
from vmctl.errors import VmctlError
from vmctl_incus import identity
from vmctl_incus.api import Api, resource
from vmctl_incus.identity import Mark

READY_MADE = "vmctl/"
"""What of a seed is for vmctl's own unit."""
ARCHIVE = PurePosixPath("/var/lib/vmctl/seed.tar")
OWNER = {"uid": "0", "gid": "0"}


def put(api: Api, name: str, mark: Mark, home: Path) -> dict[str, str]:
    """Put the machine's seed into its stopped instance, unless that has it already; what to write on the instance then.

    Raises:
        VmctlError: the seed cannot be read.
    """
    path = identity.seed_within(mark, home)
    if path is None:
        return {}
    try:
        content = {key: data for key, data in iso.read(path).items() if key.startswith(READY_MADE)}
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise VmctlError(f"the seed {path} cannot be read", details=str(error), hint="vmctl reload") from error
    if digest == mark.seeded or not content:
        return {}
    files = resource("instances", name) + "/files"
    api.put_file(files, b"", _headers("directory", "0755"), path=str(ARCHIVE.parent))
    api.put_file(files, archive(content), _headers("file", "0600"), path=str(ARCHIVE))
    return {identity.SEEDED: digest}


def archive(content: dict[str, bytes]) -> bytes:
    """The files as a tar, which must be private: one of them is the guest's host key."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as made:
        for name, data in sorted(content.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644  # the unit copies some with their modes
            made.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _headers(kind: str, mode: str) -> dict[str, Any]:
    metadata = {"type": kind, "mode": mode, "write": "overwrite", **OWNER}
    return {f"X-{product}-{key}": value for product in ("LXD", "Incus") for key, value in metadata.items()}
