"""VirtualBox from Debian, unpacked into a directory of its own; the machine that runs the tests stays as it is.

Everything in it works but starting a machine, which needs a kernel module.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.host import cache

SUITE = "sid"
PACKAGES = ("virtualbox", "libfuse2t64")
"""libfuse2 is for vboximg-mount, which shows a machine's disk as a file."""
MIRROR = "http://deb.debian.org/debian"
RECIPE = (
    "--components=main,contrib",
    "--variant=essential",
    '--aptopt=Acquire::Check-Valid-Until "false"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    f"--include={','.join(PACKAGES)}",
)

QUICK_EXIT = Path(__file__).with_name("quick_exit.c")
LIBRARY = "quick_exit.so"
"""Lies in the tree's ``usr/lib``; made from ``QUICK_EXIT``."""


def tree() -> Path:
    """The directory with VirtualBox's file system tree; made on the first call, which takes half a minute."""
    key = hashlib.sha256("\0".join((SUITE, MIRROR, *RECIPE, QUICK_EXIT.read_text())).encode()).hexdigest()[:16]
    return cache.kept(f"virtualbox-{key}", _build)


def _build(path: Path) -> None:
    program = shutil.which("mmdebstrap")
    if program is None:
        raise RuntimeError("mmdebstrap is missing:  sudo apt-get install mmdebstrap")
    if os.geteuid() != 0:
        raise RuntimeError("unpacking VirtualBox needs root (sudo)")
    part = path.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    # Mounts that a killed mmdebstrap would leave in there go with the namespace.
    argv = ["unshare", "--mount", "--", program, *RECIPE, SUITE, str(part), MIRROR]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap could not unpack VirtualBox:\n{done.stderr}")
    compile_it = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(part / "usr/lib" / LIBRARY), str(QUICK_EXIT)]
    subprocess.run(compile_it, check=True)
    part.rename(path)
