"""A real Incus in the test host, from a Debian that has it; set up as LXD is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from tests.host import debian_tree, lxd
from tests.host.commands import must
from tests.host.lxd import Lxd

SUITE = "trixie"
PACKAGES = ("incus-base", "incus-client", "dnsmasq-base", "btrfs-progs", "squashfs-tools", "nftables", "kmod", "attr")
SERVER = "/usr/libexec/incus/incusd"


def tree() -> Path:
    """The directory with Incus's file system tree."""
    return debian_tree.kept("incus", SUITE, PACKAGES)


class Incus(Lxd):
    """A running server; its client needs no library of that other Debian."""

    VARIABLE: ClassVar = "INCUS_DIR"
    MODULE: ClassVar = "tests.host.incus"
    BRIDGE: ClassVar = "vmctltest1"
    ADDRESS: ClassVar = "10.178.0.1/24"
    POOL: ClassVar = "btrfs-incus"
    CONFIGURATION: ClassVar = "INCUS_CONF"
    TRUST: ClassVar[tuple[str, ...]] = ("config", "trust", "add", "vmctl")

    @property
    def words(self) -> tuple[str, ...]:
        """Words before commands for users."""
        return (str(tree() / "usr/bin/incus"), "--force-local")

    @property
    def admin(self) -> tuple[str, ...]:
        """Words before commands for the server's owner."""
        return (*self.words, "admin")


def started(root: Path) -> Incus:
    """The test host's Incus; starts it where it does not run yet (1.5 s)."""
    server = Incus(root / "incus")
    lxd.start(server, root)
    return server


if __name__ == "__main__":
    must("mount", "--bind", str(tree() / "usr"), "/usr")
    lxd.mount_groups()
    lxd.become(SERVER, Incus.VARIABLE, sys.argv[1])
