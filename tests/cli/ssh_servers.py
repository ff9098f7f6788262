"""Servers that vmctl did not make: real OpenSSH servers on the loopback, whose key and host keys a team would share."""

from __future__ import annotations

import getpass
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.openssh_server import KEYS_ONLY, accepts, free_port
from vmctl import key_pairs, process
from vmctl.wait import Deadline, until

CONFIG = (
    """\
ListenAddress 127.0.0.1:{port}
HostKey "{root}/{name}_host"
AuthorizedKeysFile "{root}/id.pub"
PidFile none
SetEnv SERVER_NAME={name}
"""
    + KEYS_ONLY
)


@dataclass
class SshServers:
    """Running servers, by name; ``known_hosts`` has the host key of each."""

    root: Path
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def key(self) -> Path:
        """The user's private key, which all servers take."""
        return self.root / "id"

    @property
    def known_hosts(self) -> Path:
        """Host keys, as a team would have them in its repository."""
        return self.root / "known_hosts"

    @property
    def user(self) -> str:
        """The login user: whoever runs the tests."""
        return getpass.getuser()

    def start(self, *names: str) -> None:
        """Start servers."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
        key_pairs.ensure(self.key)
        for name in names:
            port = self.ports[name] = free_port()
            kind, public = key_pairs.ensure(self.root / f"{name}_host").split()[:2]
            with self.known_hosts.open("a") as known:
                known.write(f"[127.0.0.1]:{port} {kind} {public}\n")
            config = self.root / f"{name}.conf"
            config.write_text(CONFIG.format(port=port, root=self.root, name=name))
            argv = [process.find("sshd", package="openssh-server"), "-D", "-e", "-f", str(config)]
            self.running[name] = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        for name in names:
            until(lambda name=name: accepts(self.ports[name]), Deadline.after(20), f"{name} to listen")  # type: ignore[misc]

    def stop(self, *names: str) -> None:
        """Stop servers (all, without names)."""
        for name in names or tuple(self.running):
            child = self.running.pop(name)
            child.terminate()
            child.wait(20)

    def hosts(self, **groups: str) -> str:
        """``hosts:`` for a Vmfile, with the group of each server."""
        lines = [
            f"      {name}: {{address: 127.0.0.1, port: {port}, groups: [{groups.get(name, '')}]}}\n"
            for name, port in self.ports.items()
        ]
        return "    hosts:\n" + "".join(lines)

    def target(self, name: str = "staging", more: str = "", **groups: str) -> str:
        """A target for a Vmfile, below ``remotes:``."""
        way = f"    user: {self.user}\n    key: {self.key}\n    known_hosts: {self.known_hosts}\n"
        return f"  {name}:\n{way}{more}{self.hosts(**groups)}"
