"""A real LXD in the test host, without systemd: started when a test first needs it, gone with the test host.

Debian's package is enough. It gets mounts of its own: the test host's fresh /sys hides the control groups, and with
both kinds of them (hybrid), LXD would take the kind that cannot limit anything.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.host.commands import must

GROUPS = Path("/sys/fs/cgroup")
DEADLINE = 30.0
FOLDER_OWNER = 1000
"""Whose folders can be live also where the kernel cannot map owners."""
POOL_SIZE = 40 * 1024**3
"""Of a sparse file."""
PLAIN = "plain"
"""The pool in a directory, as `lxd init --auto` makes one."""
IN_A_DIRECTORY: dict[str, object] = {"driver": "dir"}

_servers: list[subprocess.Popen[bytes]] = []
"""Those that this process started; they end with the test host."""


@dataclass(frozen=True)
class Lxd:
    """A running server; what is called otherwise for Incus, which was LXD once, is set by its class."""

    directory: Path
    """Where all that it has is."""

    VARIABLE: ClassVar = "LXD_DIR"
    """Leads clients and the server itself to the directory."""
    MODULE: ClassVar = "tests.host.lxd"
    """Run in a process with mounts of its own, becomes the server."""
    BRIDGE: ClassVar = "vmctltest0"
    ADDRESS: ClassVar = "10.177.0.1/24"
    """The bridge's."""
    POOL: ClassVar = "btrfs"
    """The name of its file system, where this kernel has it."""

    CONFIGURATION: ClassVar = "LXD_CONF"
    """Leads clients to their own configuration."""
    TRUST: ClassVar[tuple[str, ...]] = ("config", "trust", "add", "--name", "vmctl")
    """Has the server print a token for a new client."""

    @property
    def words(self) -> tuple[str, ...]:
        """Words before commands for users."""
        return ("lxc", "--force-local")

    @property
    def admin(self) -> tuple[str, ...]:
        """Words before commands for the server's owner."""
        return ("lxd",)

    @property
    def socket(self) -> Path:
        """Where its API is."""
        return self.directory / "unix.socket"

    @property
    def environment(self) -> dict[str, str]:
        """What leads its clients to it."""
        return {self.VARIABLE: str(self.directory)}

    def client(self, *words: str) -> str:
        """What its own client prints."""
        done = subprocess.run(
            [*self.words, *words],
            env={**os.environ, **self.environment, "HOME": str(self.directory)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def instances(self) -> list[str]:
        """The names of all that it has, but for what it keeps of boxes."""
        names = self.client("list", "--all-projects", "--format", "csv", "--columns", "n").split()
        return [name for name in names if not name.startswith("vmctl-box-")]


def started(root: Path) -> Lxd:
    """The test host's LXD; starts it where it does not run yet (1.5 s)."""
    server = Lxd(root / "lxd")
    start(server, root)
    return server


def start(server: Lxd, root: Path) -> None:
    """Start a server, unless it was started before, and give it what containers need."""
    if server.directory.exists():
        return
    server.directory.mkdir(mode=0o711)
    map_owners(root)
    pool = cloning_pool(root, server.POOL)  # before the server gets its own copy of all mounts
    run(server, root / "log" / f"{server.directory.name}.log")
    initialize(server, _preseed(server, pool))


def map_owners(root: Path) -> None:
    """Give containers ids of root's, and one uid that folders may have."""
    for name in ("subuid", "subgid"):
        copy, own = root / name, ("root:100000:10000001\n", f"root:{FOLDER_OWNER}:1\n")
        if copy.exists():  # the ordinary user's is there, and in its place already
            others = [line for line in copy.read_text().splitlines(keepends=True) if not line.startswith("root:")]
            copy.write_text("".join((*others, *own)))
        else:
            copy.write_text("".join(own))
            must("mount", "--bind", str(copy), f"/etc/{name}")


def run(lxd: Lxd, log: Path, *before: str) -> subprocess.Popen[bytes]:
    """Start the server, behind the words ``before``; returns when it answers."""
    within = ["unshare", "--mount", "--cgroup", "--", sys.executable, "-B", "-m", lxd.MODULE, str(lxd.directory)]
    with log.open("ab") as output:
        server = subprocess.Popen(
            [*before, *within],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    _servers.append(server)
    until = time.monotonic() + DEADLINE
    while not lxd.socket.is_socket():
        if server.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"LXD did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.02)
    environment = {**os.environ, **lxd.environment}
    subprocess.run([*lxd.admin, "waitready", f"--timeout={DEADLINE:.0f}"], env=environment, check=True)
    return server


def initialize(lxd: Lxd, preseed: Mapping[str, object]) -> None:
    """Tell a new server what it is to have."""
    words, said = [*lxd.admin, "init", "--preseed"], json.dumps(preseed).encode()
    done = subprocess.run(words, input=said, env={**os.environ, **lxd.environment}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def _preseed(server: Lxd, pool: Mapping[str, object]) -> dict[str, object]:
    # Nothing leaves the test host, so there is nothing to translate or to let through.
    closed = {"ipv4.nat": "false", "ipv4.firewall": "false", "ipv6.address": "none"}
    devices = {
        "root": {"type": "disk", "pool": "default", "path": "/"},
        "eth0": {"type": "nic", "network": server.BRIDGE, "name": "eth0"},
    }
    return {
        "config": {"images.auto_update_interval": "0"},
        "storage_pools": [{"name": "default", **pool}, {"name": PLAIN, **IN_A_DIRECTORY}],
        "networks": [{"name": server.BRIDGE, "type": "bridge", "config": {"ipv4.address": server.ADDRESS, **closed}}],
        "profiles": [{"name": "default", "devices": devices}],
    }


def cloning_pool(root: Path, name: str) -> dict[str, object]:
    """A pool that clones a box in no time where this kernel has btrfs, else one that unpacks it for each machine."""
    place = root / name
    return {"driver": "btrfs", "config": {"source": str(place)}} if _mount_btrfs(place) else IN_A_DIRECTORY


def _mount_btrfs(place: Path) -> bool:
    image = place.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(POOL_SIZE)
    must("mkfs.btrfs", "--quiet", str(image))
    place.mkdir()
    options = "loop,noatime,nobarrier"  # it need not outlive anything
    return subprocess.run(["mount", "-t", "btrfs", "-o", options, str(image), str(place)], check=False).returncode == 0


def mount_groups() -> None:
    """Have the control groups that the server can use; in mount and cgroup namespaces of its own."""
    if not Path("/sys/class/net", _own_link()).exists():  # another network namespace's
        must("mount", "-t", "sysfs", "sysfs", "/sys")
    must("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(GROUPS))
    for hierarchy in _hierarchies():
        place = GROUPS / hierarchy.removeprefix("name=")
        place.mkdir()
        must("mount", "-t", "cgroup", "-o", hierarchy, "cgroup", str(place))


def become(program: str, variable: str, directory: str) -> None:
    """Be a server from now on."""
    os.execvpe(program, [program, "--group", "root"], {**os.environ, variable: directory})  # noqa: S606  as it says


def _own_link() -> str:
    """The last of this namespace's network devices by name: a member of a cluster has another one than the host."""
    return max(name for _, name in socket.if_nameindex())


def _hierarchies() -> list[str]:
    """The control groups of the first kind that this host has: "memory", "cpu,cpuacct", "name=systemd"…"""
    rows = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    found = [names for _, names, _ in rows if names]
    if not found:  # of the second kind alone
        with suppress(FileExistsError):
            must("mount", "-t", "cgroup2", "cgroup2", str(GROUPS))
    return found


if __name__ == "__main__":
    mount_groups()
    become("lxd", Lxd.VARIABLE, sys.argv[1])
