"""The private test host with the programs of a newer Debian: its libvirt, QEMU, virtiofsd and OpenSSH.

    sudo .venv/bin/python -B -m tests.host.newer_debian .venv/bin/pytest tests/contract/test_contract_libvirt_real.py

What this machine has below /usr is hidden meanwhile, so Python must be elsewhere, as pyenv's or uv's is.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tests.host import debian_tree

SUITE = "trixie"
REPOSITORY = Path(__file__).parents[2]
LISTS = ("packages.txt", "packages-test.txt")
ABSENT = ("lxd", "vagrant", "vagrant-libvirt")
"""Packages of ours that this Debian has no more, or that bring half of another world with them."""
BESIDES = ("bash", "coreutils", "iputils-ping", "kmod", "nftables", "netcat-openbsd", "passwd", "sudo")
USR = Path("/usr")


def tree() -> Path:
    """The directory with its file system tree."""
    lines = (line for name in LISTS for line in (REPOSITORY / "scripts" / name).read_text().splitlines())
    ours = (found.group(1) for line in lines if (found := re.match(r"\??([a-z0-9][a-z0-9.+-]*)", line)))
    return debian_tree.kept("newer", SUITE, (*(name for name in ours if name not in ABSENT), *BESIDES))


def main(command: list[str]) -> None:
    """Become the test host with a command in it."""
    if Path(sys.base_prefix).is_relative_to(USR):
        sys.exit(f"This needs a Python that is not in {USR}: make .venv with pyenv's or uv's.")
    host = [sys.executable, "-B", str(REPOSITORY / "tests/host/run.py"), "--", *command]
    argv = debian_tree.entered(tree(), *host)
    os.execvp(argv[0], argv)  # noqa: S606  it takes this place


if __name__ == "__main__":
    main(sys.argv[1:])
