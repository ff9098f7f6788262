"""A real LXD in the test host, without systemd: started when a test first needs it, gone with the test host.

Debian's package is enough. It gets mounts of its own: the test host's fresh /sys hides the control groups, and with
both kinds of them (hybrid), LXD would take the kind that cannot limit anything.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.host.commands import must

GROUPS = Path("/sys/fs/cgroup")
DEADLINE = 30.0
BRIDGE = "vmctltest0"
FOLDER_OWNER = 1000
"""Whose folders can be live also where the kernel cannot map owners."""
POOL_SIZE = 40 * 1024**3
"""Of a sparse file."""
NETWORK = {
    "name": BRIDGE,
    "type": "bridge",
    # Nothing leaves the test host, so there is nothing to translate or to let through.
    "config": {"ipv4.address": "10.177.0.1/24", "ipv4.nat": "false", "ipv4.firewall": "false", "ipv6.address": "none"},
}
PLAIN = "plain"
"""The pool in a directory, as `lxd init --auto` makes one."""
IN_A_DIRECTORY: dict[str, object] = {"driver": "dir"}

_servers: list[subprocess.Popen[bytes]] = []
"""Those that this process started; they end with the test host."""


@dataclass(frozen=True)
class Lxd:
    """A running server."""

    directory: Path
    """Its LXD_DIR."""

    @property
    def socket(self) -> Path:
        """Where its API is."""
        return self.directory / "unix.socket"

    @property
    def environment(self) -> dict[str, str]:
        """What leads its clients to it."""
        return {"LXD_DIR": str(self.directory)}

    def lxc(self, *words: str) -> str:
        """What its own client prints."""
        done = subprocess.run(
            ["lxc", "--force-local", *words],
            env={**os.environ, **self.environment, "HOME": str(self.directory)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"lxc {' '.join(words)}: {done.stderr}"
        return done.stdout

    def instances(self) -> list[str]:
        """The names of all that it has."""
        return self.lxc("list", "--all-projects", "--format", "csv", "--columns", "n").split()


def started(root: Path) -> Lxd:
    """The test host's LXD; starts it where it does not run yet (1.5 s)."""
    lxd = Lxd(root / "lxd")
    if not lxd.directory.exists():
        lxd.directory.mkdir(mode=0o711)
        _start(lxd, root)
    return lxd


def _start(lxd: Lxd, root: Path) -> None:
    for name in ("subuid", "subgid"):  # root's, and one uid that folders may have
        copy = root / name
        copy.write_text(f"root:100000:10000001\nroot:{FOLDER_OWNER}:1\n")
        must("mount", "--bind", str(copy), f"/etc/{name}")
    pool = _cloning_pool(root)  # before the server gets its own copy of all mounts
    log = root / "log" / "lxd.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["unshare", "--mount", "--cgroup", "--", sys.executable, "-B", "-m", "tests.host.lxd", str(lxd.directory)],
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
    subprocess.run(["lxd", "waitready", f"--timeout={DEADLINE:.0f}"], env=environment, check=True)
    preseed = json.dumps(_preseed(pool)).encode()
    subprocess.run(["lxd", "init", "--preseed"], input=preseed, env=environment, check=True)


def _preseed(pool: Mapping[str, object]) -> dict[str, object]:
    devices = {
        "root": {"type": "disk", "pool": "default", "path": "/"},
        "eth0": {"type": "nic", "network": BRIDGE, "name": "eth0"},
    }
    return {
        "config": {"images.auto_update_interval": "0"},
        "storage_pools": [{"name": "default", **pool}, {"name": PLAIN, **IN_A_DIRECTORY}],
        "networks": [NETWORK],
        "profiles": [{"name": "default", "devices": devices}],
    }


def _cloning_pool(root: Path) -> dict[str, object]:
    """A pool that clones a box in no time where this kernel has btrfs, else one that unpacks it for each machine."""
    return {"driver": "btrfs", "config": {"source": str(root / "btrfs")}} if _mount_btrfs(root) else IN_A_DIRECTORY


def _mount_btrfs(root: Path) -> bool:
    image, place = root / "btrfs.img", root / "btrfs"
    with image.open("wb") as file:
        file.truncate(POOL_SIZE)
    must("mkfs.btrfs", "--quiet", str(image))
    place.mkdir()
    options = "loop,noatime,nobarrier"  # it need not outlive anything
    return subprocess.run(["mount", "-t", "btrfs", "-o", options, str(image), str(place)], check=False).returncode == 0


def main(directory: str) -> None:
    """Become the server; runs in mount and cgroup namespaces of its own."""
    must("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(GROUPS))
    for hierarchy in _hierarchies():
        place = GROUPS / hierarchy.removeprefix("name=")
        place.mkdir()
        must("mount", "-t", "cgroup", "-o", hierarchy, "cgroup", str(place))
    os.execvpe("lxd", ["lxd", "--group", "root"], {**os.environ, "LXD_DIR": directory})  # noqa: S606  it takes this place


def _hierarchies() -> list[str]:
    """The control groups of the first kind that this host has: "memory", "cpu,cpuacct", "name=systemd"…"""
    rows = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    found = [names for _, names, _ in rows if names]
    if not found:  # of the second kind alone
        with suppress(FileExistsError):
            must("mount", "-t", "cgroup2", "cgroup2", str(GROUPS))
    return found


if __name__ == "__main__":
    main(sys.argv[1])
