"""Programs of another Debian, unpacked into a directory; the machine that runs the tests stays as it is."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path

from tests.host import cache

MIRROR = "http://deb.debian.org/debian"
OPTIONS = (
    "--components=main,contrib",
    "--variant=essential",
    '--aptopt=Acquire::Check-Valid-Until "false"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)
ENTER = 'mount --bind "$1" /usr && shift && exec "$@"'


def entered(tree: Path, *argv: str, propagation: str = "private") -> list[str]:
    """``argv`` as a command that runs with a tree's ``/usr``, in a mount namespace of its own."""
    return ["unshare", "--mount", "--propagation", propagation, "sh", "-c", ENTER, "sh", str(tree / "usr"), *argv]


def kept(
    name: str, suite: str, packages: Collection[str], finish: Callable[[Path], None] = lambda _: None, also: str = ""
) -> Path:
    """The directory with the file system tree of some packages; made on the first call, which takes half a minute.

    Args:
        name: of the part in the cache.
        suite: of Debian.
        packages: what is in it, besides what they need.
        finish: called with the tree before it is kept.
        also: what else it depends on.
    """
    recipe = (*OPTIONS, f"--include={','.join(packages)}")
    key = hashlib.sha256("\0".join((suite, MIRROR, *recipe, also)).encode()).hexdigest()[:16]

    def make(path: Path) -> None:
        part = path.with_suffix(".part")
        _unpack(part, suite, recipe)
        finish(part)
        part.rename(path)

    return cache.kept(f"{name}-{key}", make)


def _unpack(part: Path, suite: str, recipe: Collection[str]) -> None:
    program = shutil.which("mmdebstrap")
    if program is None:
        raise RuntimeError("mmdebstrap is missing:  sudo apt-get install mmdebstrap")
    if os.geteuid() != 0:
        raise RuntimeError(f"unpacking {part.stem} needs root (sudo)")
    shutil.rmtree(part, ignore_errors=True)
    # Mounts that a killed mmdebstrap would leave in there go with the namespace.
    argv = ["unshare", "--mount", "--", program, *recipe, suite, str(part), MIRROR]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap could not unpack {part.stem}:\n{done.stderr}")
