"""An SSH server on the loopback that takes a password besides keys; stands for a guest of the old kind.

OpenSSH's own would want an account whose password is known. Keys are those of ``HOME/.ssh/authorized_keys``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.server import InteractiveQuery

PROMPTS = [("Login name: ", True), ("Password: ", False)]


@dataclass
class Account(paramiko.ServerInterface):
    """The one user of the server."""

    home: Path
    password: str
    interactive: bool = False
    """Whether the password is asked for, as PAM does, and never just taken."""
    tried: list[str] = field(default_factory=list)
    """How clients tried to log in."""
    environment: dict[str, str] = field(default_factory=dict)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey,keyboard-interactive" if self.interactive else "publickey,password"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.tried.append("publickey")
        keys = self.home / ".ssh" / "authorized_keys"
        known = keys.exists() and key.get_base64() in keys.read_text()
        return AUTH_SUCCESSFUL if known else AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> int:
        self.tried.append("password")
        right = password == self.password and not self.interactive
        return AUTH_SUCCESSFUL if right else AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> InteractiveQuery:
        self.tried.append("interactive")
        return InteractiveQuery("", "", *PROMPTS)

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return AUTH_SUCCESSFUL if responses == ["", self.password] else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        data = channel.makefile("rb").read()
        environment = {**os.environ, "HOME": str(self.home), **self.environment}
        done = subprocess.run(["sh", "-c", command], input=data, capture_output=True, env=environment, check=False)
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        channel.send_exit_status(done.returncode)
        channel.close()


class PasswordServer:
    """A running server; ``close`` it."""

    def __init__(self, account: Account, host_key: Path, port: int = 0) -> None:
        self._account, self._key = account, paramiko.PKey.from_path(host_key)
        self._listener = socket.create_server(("127.0.0.1", port))
        self._transports: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(sock)
            transport.add_server_key(self._key)
            self._transports.append(transport)
            try:
                transport.start_server(server=self._account)
            except (paramiko.SSHException, EOFError, OSError):
                transport.close()  # somebody who only looked whether it listens

    def close(self) -> None:
        """End it, and all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for transport in self._transports:
            transport.close()
            transport.join(5)
