"""vmctl's own Ansible as an archive that any guest with a Python new enough can run, without a network.

ansible-core and what it needs are pure Python; the compiled parts of some are only quicker, and are left out. What
is missing then is `cryptography`, without which Ansible opens no vaults.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

PACKAGES = ("ansible-core", "jinja2", "markupsafe", "packaging", "pyyaml", "resolvelib")
LEFT_OUT = ("ansible_test", "bin", "..", "__pycache__")
PROGRAM = "ansible-playbook"
START = """\
#!/usr/bin/env python3
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib"))
from ansible.cli.playbook import main

main()
"""


@dataclass(frozen=True)
class Bundle:
    """What a guest gets."""

    name: str
    """Differs where the content does."""
    python: tuple[int, int]
    """The oldest Python that runs it."""

    def archive(self) -> bytes:
        """A gzipped tar: the program, and `lib` beside it."""
        buffer = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|") as archive,
        ):
            program = tarfile.TarInfo(PROGRAM)
            program.size, program.mode = len(START), 0o755
            archive.addfile(program, io.BytesIO(START.encode()))
            for name, path in _files():
                member = tarfile.TarInfo(f"lib/{name}")
                data = path.read_bytes()
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, io.BytesIO(data))
        return buffer.getvalue()


def own() -> Bundle:
    """The bundle of the Ansible that vmctl itself uses."""
    versions = [f"{name}={metadata.version(name)}" for name in PACKAGES]
    digest = hashlib.sha256(" ".join(versions).encode()).hexdigest()[:8]
    return Bundle(f"ansible-{metadata.version('ansible-core')}-{digest}", _oldest_python())


def _oldest_python() -> tuple[int, int]:
    said = metadata.metadata("ansible-core")["Requires-Python"] or ">=3.11"
    major, minor = said.partition(">=")[2].split(",")[0].split(".")[:2]
    return int(major), int(minor)


def _files() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for file in sorted(metadata.files(package) or (), key=str):
            parts = PurePosixPath(file).parts
            if parts[0] in LEFT_OUT or "__pycache__" in parts or file.suffix in (".so", ".pyc"):
                continue
            yield str(file), Path(str(file.locate()))
