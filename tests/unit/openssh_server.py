"""A real OpenSSH server on the loopback, as the user who runs the tests; stands for a guest in unit tests."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec import structs

from vmctl import key_pairs, process, ssh
from vmctl.driver import Address
from vmctl.login import Login
from vmctl.wait import Deadline, until

SUDO = """\
#!/bin/sh
while :; do
    case $1 in --) shift; break ;; -*) shift ;; *) break ;; esac
done
VIA_SUDO=yes exec "$@"
"""

KEYS_ONLY = """\
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
"""
"""For sshd: it runs as whoever runs the tests, whose key files are where the tests put them."""

# A home of its own: the start-up files of whoever runs the tests are none of theirs; nor is what others leave in /tmp.
CONFIG = (
    """\
ListenAddress 127.0.0.1:{port}
HostKey "{root}/host_ed25519"
AuthorizedKeysFile "{root}/id_ed25519.pub"
PidFile none
Subsystem sftp internal-sftp
SetEnv PATH={binaries}:/usr/local/bin:/usr/bin:/bin HOME={binaries} TMPDIR={temporary}
"""
    + KEYS_ONLY
)


@dataclass(frozen=True)
class Sshd:
    """A running server, and the login that it takes."""

    login: Login
    root: Path
    bin: Path
    """First in the PATH of what runs over SSH; holds a ``sudo`` that only says so."""
    temporary: Path
    """Temporary files of what runs over SSH."""

    @property
    def left(self) -> list[Path]:
        """What our own scripts have left there; modules that Ansible's end has killed leave theirs."""
        return list(self.temporary.glob("vmctl-shell.*"))

    def but(self, **changes: object) -> Login:
        """The login with some fields changed."""
        return structs.replace(self.login, **changes)


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something listens on the port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _configure(program: str | Path, place: Path, config: str) -> None:
    """Have it forgive refused logins, where it can (from 9.8 on) do otherwise: to it, those of all tests are one's."""
    for forgiving in ("PerSourcePenalties no\n", ""):
        place.write_text(config + forgiving)
        if subprocess.run([program, "-t", "-f", place], check=False, capture_output=True).returncode == 0:
            return
    raise AssertionError(f"sshd does not take {place}")


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    root = tmp_path_factory.mktemp("a machine")  # with a space: paths go through many quotings
    port = free_port()
    key_pairs.ensure(root / "id_ed25519")
    ssh.write_known_hosts(root / "known_hosts", "web", key_pairs.ensure(root / "host_ed25519"))
    binaries, temporary = tmp_path_factory.mktemp("bin"), tmp_path_factory.mktemp("temporary")
    (binaries / "sudo").write_text(SUDO)
    (binaries / "sudo").chmod(0o755)
    config = CONFIG.format(port=port, root=root, binaries=binaries, temporary=temporary)
    login = Login(
        machine="web",
        address=Address(host="127.0.0.1", port=port),
        user=getpass.getuser(),
        key=root / "id_ed25519",
        known_hosts=root / "known_hosts",
        config=root / "ssh_config",
    )
    ssh.write_config(login)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
    program = process.find("sshd", package="openssh-server")
    _configure(program, root / "sshd_config", config)
    log = (root / "sshd.log").open("wb")
    child = subprocess.Popen([program, "-D", "-e", "-f", root / "sshd_config"], stderr=log)
    try:
        until(lambda: accepts(port), Deadline.after(10), "sshd to listen")
        yield Sshd(login, root, binaries, temporary)
    finally:
        child.terminate()
        child.wait(10)
        log.close()
