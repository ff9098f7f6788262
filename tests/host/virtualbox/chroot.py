"""VirtualBox from Debian; everything in it works but starting a machine, which needs a kernel module."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.host import debian_tree

SUITE = "sid"
PACKAGES = ("virtualbox", "libfuse2t64")
"""libfuse2 is for vboximg-mount, which shows a machine's disk as a file."""
QUICK_EXIT = Path(__file__).with_name("quick_exit.c")
LIBRARY = "quick_exit.so"
"""Lies in the tree's ``usr/lib``; made from ``QUICK_EXIT``."""


def tree() -> Path:
    """The directory with VirtualBox's file system tree."""
    return debian_tree.kept("virtualbox", SUITE, PACKAGES, _compile, QUICK_EXIT.read_text())


def _compile(tree: Path) -> None:
    argv = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(tree / "usr/lib" / LIBRARY), str(QUICK_EXIT)]
    subprocess.run(argv, check=True)
