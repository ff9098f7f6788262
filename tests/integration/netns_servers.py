"""Servers that vmctl did not make, in network namespaces: two that only a jump host can reach, and that jump host."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.openssh_server import KEYS_ONLY
from vmctl import key_pairs, process

# name → its address towards the one before it, and the address there
LINKS = {
    "jump": (None, "10.77.0.1", "10.77.0.2"),
    "web-a": ("jump", "10.77.1.1", "10.77.1.2"),
    "db-a": ("jump", "10.77.2.1", "10.77.2.2"),
}
CONFIG = (
    """\
ListenAddress {address}
HostKey "{root}/{name}_host"
AuthorizedKeysFile "{root}/id.pub"
PidFile none
AllowTcpForwarding yes
SetEnv SERVER_NAME={name}
"""
    + KEYS_ONLY
)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@dataclass
class NetnsServers:
    """The namespaces and the servers in them."""

    root: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Make the namespaces, start sshd in each."""
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        key_pairs.ensure(self.root / "id")
        for name, (before, near, far) in LINKS.items():
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            ip("link", "add", f"v-{name}", "type", "veth", "peer", "name", "up0", "netns", name)
            if before:
                ip("link", "set", f"v-{name}", "netns", before)
            inside = ("-n", before) if before else ()
            ip(*inside, "address", "add", f"{near}/24", "dev", f"v-{name}")
            ip(*inside, "link", "set", f"v-{name}", "up")
            ip("-n", name, "address", "add", f"{far}/24", "dev", "up0")
            ip("-n", name, "link", "set", "up0", "up")
            self._sshd(name, far)
        self.write_known_hosts()
        self._await_jump()

    def _sshd(self, name: str, address: str) -> None:
        key_pairs.ensure(self.root / f"{name}_host")
        config = self.root / f"{name}.conf"
        config.write_text(CONFIG.format(name=name, address=address, root=self.root))
        argv = ["ip", "netns", "exec", name, process.find("sshd"), "-D", "-e", "-f", str(config)]
        self.running.append(subprocess.Popen(argv, stderr=subprocess.DEVNULL))

    def _await_jump(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as sock:
                if sock.connect_ex((LINKS["jump"][2], 22)) == 0:
                    return
            assert time.monotonic() < deadline, "sshd on the jump host does not listen"
            time.sleep(0.05)

    def write_known_hosts(self, **keys_of: str) -> None:
        """Write everybody's host key; ``jump="db_a"`` writes another's."""
        lines = []
        for name, (_, _, far) in LINKS.items():
            owner = keys_of.get(name.replace("-", "_"), name)
            kind, key = (self.root / f"{owner}_host.pub").read_text().split()[:2]
            lines.append(f"{far} {kind} {key}\n")
        (self.root / "known_hosts").write_text("".join(lines))

    def stop(self) -> None:
        """End everything."""
        for child in self.running:
            child.terminate()
            child.wait(20)
        # What still runs in a namespace (the end of a session) keeps it, and so the link on this side.
        subprocess.run(["ip", "link", "delete", "v-jump"], check=False)
        for name in reversed(LINKS):
            subprocess.run(["ip", "netns", "delete", name], check=False)
