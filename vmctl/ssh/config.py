"""What OpenSSH is told of a machine: its ``ssh_config`` block and its ``known_hosts`` line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vmctl.errors import VmctlError
from vmctl.login import Login
from vmctl.store import files

if TYPE_CHECKING:
    from vmctl.ssh.connection import Connection


def render(logins: Iterable[Login]) -> str:
    """``ssh_config`` text with one Host block for each login; the host alias is the machine's name."""
    return "\n".join(_block(login) for login in logins)


def write_config(login: Login) -> None:
    """Write the machine's own ``ssh_config`` (0600); one that says the same already is left alone.

    It is for ``ssh -F``, so that nothing in the user's own configuration changes how a machine is reached.
    """
    _write_changed(login.config, render([login]))


def write_known_hosts(path: Path, alias: str, public_key: str) -> None:
    """Write the one host key (a line "TYPE BASE64 …") that is right for the machine ``alias``."""
    kind, key = public_key.split()[:2]
    _write_changed(path, f"{alias} {kind} {key}\n")


def pin(connection: Connection) -> None:
    """From now on, only the host key that the machine has just shown is right."""
    write_known_hosts(connection.login.known_hosts, connection.login.machine, " ".join(shown_key(connection)))


def shown_key(connection: Connection) -> tuple[str, str]:
    """Type and base64 of the host key that the machine shows."""
    key = connection.transport.get_remote_server_key()
    return key.get_name(), key.get_base64()


def public_part(key: Path) -> str:
    """Base64 of the public half of a private key, in any format that people use."""
    import paramiko

    return paramiko.PKey.from_path(key).get_base64()


def _write_changed(path: Path, text: str) -> None:
    if not files.exists(path) or files.read(path) != text.encode():
        files.write(path, text)


def settings(login: Login) -> dict[str, str]:
    """OpenSSH keywords and their values for a machine, each value quoted as ``ssh_config`` and ``ssh -o`` want it."""
    values = {
        "HostName": login.address.host,
        "Port": str(login.address.port),
        "User": login.user,
        "IdentityFile": _path(login.key),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": _path(login.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": login.machine,
        "StrictHostKeyChecking": "yes",
        "PreferredAuthentications": "publickey",
        "PasswordAuthentication": "no",
        "LogLevel": "ERROR",
    }
    return {keyword: _value(value) for keyword, value in values.items()}


def _block(login: Login) -> str:
    lines = [f"  {keyword} {value}" for keyword, value in settings(login).items()]
    return "\n".join([f"Host {_value(login.machine)}", *lines, ""])


def _path(path: Path) -> str:
    """A path for a keyword that expands %-tokens and ${VARIABLES}; the latter cannot be escaped."""
    text = str(path)
    if "${" in text:
        raise VmctlError(
            f"OpenSSH cannot be told of a path with '${{' in it: {text}", hint="move the project to another directory"
        )
    return text.replace("%", "%%")


def _value(text: str) -> str:
    """One argument of a configuration line."""
    if not text.isprintable():
        raise VmctlError(f"OpenSSH cannot be told of a value with control characters: {text!r}")
    if text and not set(text) & set(" \"'\\#="):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
