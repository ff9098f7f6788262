"""Collections that people use, from the package `ansible` on PyPI: content that nobody here wrote."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.host import cache

VERSION = "12.3.0"
SHA256 = "cd156f82fa87f7a899212b0efa9f7ca3a24d609212de9f78428a572eb01e5414"
NAME = f"collections-{SHA256[:16]}"
COLLECTIONS = ("ansible/posix", "community/general")


def place() -> Path:
    """Where ``tree`` is, or will be."""
    return cache.directory() / NAME


def tree() -> Path:
    """The directory that holds ``ansible_collections``; made on the first call, which takes some seconds."""
    return cache.kept(NAME, _fetch)


def _fetch(path: Path) -> None:
    part = path.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(f"ansible=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
        argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", scratch]
        done = subprocess.run([*argv, "-r", str(wanted)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pip could not download ansible {VERSION}:\n{done.stderr}")
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            prefixes = tuple(f"ansible_collections/{name}/" for name in COLLECTIONS)
            archive.extractall(part, [name for name in archive.namelist() if name.startswith(prefixes)])
    part.rename(path)
