"""OpenSSH sessions for people: the argv, and running one with the terminal handed through."""

from __future__ import annotations

from collections.abc import Sequence

from vmctl import process
from vmctl.errors import Unreachable
from vmctl.login import Login

SSH_FAILED = 255  # ssh's own status when it could not connect; a remote command may end with it too
RETRY_TIMEOUT = 5.0


def argv(
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


def run(login: Login, command: str, *, tty: bool | None = None, options: Sequence[str] = ()) -> int:
    """Run a command in the guest with this process's standard streams, and return its status.

    Raises:
        Unreachable: ssh could not connect.
        Interrupted: the user asked to stop.
    """
    status = process.foreground(argv(login, command, tty=tty, options=options))
    if status == SSH_FAILED:
        # Was that ssh or the command? Whoever can log in now could log in then.
        from vmctl.ssh.connection import Connection

        Connection.connect(login, timeout=RETRY_TIMEOUT).close()
    if status < 0:
        raise Unreachable(f"{login.machine}: ssh was killed by signal {-status}", hint=f"vmctl status {login.machine}")
    return status
