"""What OpenSSH is told of a machine: its ``ssh_config`` block and its ``known_hosts`` line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmctl import process
from vmctl.errors import Unreachable, VmctlError
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


SSH_FAILED = 255  # ssh's own status when it could not connect; a remote command may end with it too
RETRY_TIMEOUT = 5.0


def session_argv(
    login: Login, command: str | None = None, *, tty: bool | None = None, options: Sequence[str] = ()
) -> list[str]:
    """The ``ssh`` command line for a session.

    Args:
        login: the machine; its ``ssh_config`` must have been written.
        command: what the login shell runs; None = an interactive shell.
        tty: force (True) or refuse (False) a terminal; None = ssh's choice.
        options: further words for ssh, from the user.
    """
    terminal = [] if tty is None else ["-t" if tty else "-T"]
    words = [process.find("ssh", package="openssh-client"), "-F", str(login.config), *terminal, *options]
    return [*words, "--", login.machine, *([] if command is None else [command])]  # ssh takes no option behind `--`


def run_session(login: Login, command: str, *, tty: bool | None = None, options: Sequence[str] = ()) -> int:
    """Run a command in the guest with this process's standard streams, and return its status.

    Raises:
        Unreachable: ssh could not connect.
        Interrupted: the user asked to stop.
    """
    status = process.foreground(session_argv(login, command, tty=tty, options=options))
    if status == SSH_FAILED:
        # Was that ssh or the command? Whoever can log in now could log in then.
        from vmctl.ssh.connection import Connection

        Connection.connect(login, timeout=RETRY_TIMEOUT).close()
    if status < 0:
        raise Unreachable(f"{login.machine}: ssh was killed by signal {-status}", hint=f"vmctl status {login.machine}")
    return status
