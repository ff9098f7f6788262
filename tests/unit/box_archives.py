"""Archives for tests: well-formed ones, and ones that nobody should unpack."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def tarred(members: Mapping[str, bytes], *, mode: str = "w:gz", form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive of files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            add(archive, name, data)
    return target.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    """Add one member; ``fields`` are set on its TarInfo."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(data))


def written(path: Path, data: bytes) -> Path:
    """The data as a file."""
    path.write_bytes(data)
    return path
