"""Starting an instance: its seed is put into it first, and it may have to do without mapped owners of its folders.

A container has no disk to read a seed from: the unit ``vmctl-seed`` of vmctl's boxes takes the ready-made files from an
archive there.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from vmctl import iso
from vmctl.errors import VmctlError, in_words
from vmctl_incus import folders, identity, other_hosts
from vmctl_incus.api import Api, resource
from vmctl_incus.handle import Handle
from vmctl_incus.identity import Mark
from vmctl_incus.observation import location
from vmctl_incus.requesting import ServerError

CANNOT_SHIFT = "idmapping abilities are required"
"""What the server says when a folder's file system cannot be mounted with other owners, whatever its kernel can."""
READY_MADE = "vmctl/"
"""What of a seed is for vmctl's own unit."""
ARCHIVE = PurePosixPath("/var/lib/vmctl/seed.tar")
OWNER = {"uid": "0", "gid": "0"}


def start(api: Api, one: Handle, home: Path, memory: folders.Memory) -> None:
    """Start one that is off, with its seed in it.

    Args:
        api: to the server.
        one: the instance.
        home: vmctl's own directory, below which seeds lie.
        memory: learns whose folders' file system cannot be mounted with other owners.

    Raises:
        VmctlError: its seed cannot be read, or it did not start.
    """
    seeded = _put_seed(api, one.name, one.mark, home)
    one.patch({**seeded, identity.RUN: secrets.token_hex(8)})
    if not other_hosts.is_local(api, location(one.found)):
        other_hosts.start(api, one)
        return
    try:
        one.act("start")
    except ServerError as error:
        if CANNOT_SHIFT not in error.brief:
            raise
        memory.add(one.found["devices"])
        one.put(folders.without_shift)
        one.act("start")


def _put_seed(api: Api, name: str, mark: Mark, home: Path) -> dict[str, str]:
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
        raise VmctlError(f"the seed {path} cannot be read", details=in_words(error), hint="vmctl reload") from error
    if digest == mark.seeded or not content:
        return {}
    files = resource("instances", name) + "/files"
    api.put_file(files, b"", _headers("directory", "0755"), path=str(ARCHIVE.parent))
    api.put_file(files, _archive(content), _headers("file", "0600"), path=str(ARCHIVE))
    return {identity.SEEDED: digest}


def _archive(content: dict[str, bytes]) -> bytes:
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
