"""A real cluster of three LXD servers in the test host: each in a network namespace, joined by a bridge of the host's.

Two of them are a majority, so they go on when the third ends.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.host import lxd
from tests.host.commands import must
from tests.host.lxd import Lxd

BRIDGE, HOST = "lab0", "10.78.0.254"
PORT = 8443
OFFLINE_AFTER = "11"
"""Seconds; the least that LXD takes."""


@dataclass(frozen=True)
class Member(Lxd):
    """One server of the cluster."""

    name: str
    address: str

    @property
    def url(self) -> str:
        """Where it listens for clients and for the others."""
        return f"{self.address}:{PORT}"


class Cluster:
    """Three members: "a", which tests ask, "b", which has the trouble, and "c"."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.a, self.b, self.c = self.members = tuple(
            Member(root / f"lxd-{name}", name, f"10.78.0.{number}") for number, name in enumerate("abc", 1)
        )

    def start(self) -> None:
        """Make the namespaces and the servers (9 s)."""
        lxd.map_owners(self._root)
        must("ip", "link", "add", BRIDGE, "type", "bridge")
        must("ip", "address", "add", f"{HOST}/24", "dev", BRIDGE)
        must("ip", "link", "set", BRIDGE, "up")
        for member in self.members:
            _namespace(member)
            member.directory.mkdir(mode=0o711)
            pool = lxd.cloning_pool(self._root, f"btrfs-{member.name}")
            self.run(member)
            lxd.initialize(member, self._first(pool) if member is self.a else self._joining(member, pool))
        self.a.client("config", "set", "cluster.offline_threshold", OFFLINE_AFTER)

    def run(self, member: Member) -> None:
        """Start a member, again if it was killed."""
        log = self._root / "log" / f"lxd-{member.name}.log"
        member.socket.unlink(missing_ok=True)
        self._running[member.name] = lxd.run(member, log, "nsenter", f"--net=/run/netns/{member.name}", "--")

    def kill(self, member: Member) -> None:
        """End a member as a power cut would; its containers are out of everybody's reach."""
        server = self._running.pop(member.name)
        server.send_signal(signal.SIGKILL)
        server.wait(20)

    @contextmanager
    def dead(self, member: Member) -> Iterator[None]:
        """As ``kill``, and start it again."""
        self.kill(member)
        try:
            yield
        finally:
            self.run(member)

    @contextmanager
    def hanging(self, member: Member) -> Iterator[None]:
        """Have a member take connections and answer nothing, as one whose disk or memory is in trouble."""
        server = self._running[member.name]
        server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            server.send_signal(signal.SIGCONT)

    @contextmanager
    def cut_off(self, member: Member) -> Iterator[None]:
        """Have nothing that is sent to a member or by it arrive."""
        must("ip", "link", "set", f"lab-{member.name}", "down")
        try:
            yield
        finally:
            must("ip", "link", "set", f"lab-{member.name}", "up")

    def _first(self, pool: dict[str, object]) -> dict[str, object]:
        settings = {"core.https_address": self.a.url, "images.auto_update_interval": "0"}
        return {
            "config": settings,
            "cluster": {"enabled": True, "server_name": "a"},
            "storage_pools": [{"name": "default", **pool}],
            "profiles": [{"name": "default", "devices": {"root": {"type": "disk", "pool": "default", "path": "/"}}}],
        }

    def _joining(self, member: Member, pool: dict[str, object]) -> dict[str, object]:
        token = self.a.client("cluster", "add", member.name).split()[-1]
        config = pool.get("config")
        source = str(config["source"]) if isinstance(config, dict) else ""
        setting = {"entity": "storage-pool", "name": "default", "key": "source", "value": source}
        joined = {"enabled": True, "server_name": member.name, "server_address": member.url, "cluster_token": token}
        return {"cluster": {**joined, "member_config": [setting]}}


def _namespace(member: Member) -> None:
    name = member.name
    must("ip", "netns", "add", name)
    must("ip", "-n", name, "link", "set", "lo", "up")
    must("ip", "link", "add", f"lab-{name}", "type", "veth", "peer", "name", "up0", "netns", name)
    must("ip", "link", "set", f"lab-{name}", "master", BRIDGE, "up")
    must("ip", "-n", name, "address", "add", f"{member.address}/24", "dev", "up0")
    must("ip", "-n", name, "link", "set", "up0", "up")


@cache
def started(root: Path) -> Cluster:
    """The test host's cluster; starts it when it is first asked for."""
    cluster = Cluster(root)
    cluster.start()
    return cluster
