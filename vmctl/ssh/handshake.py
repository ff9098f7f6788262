"""From a TCP connection to an authenticated SSH transport, with an error class for each way that it can fail."""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmctl import interrupt
from vmctl.errors import Unreachable, VmctlError
from vmctl.login import Login
from vmctl.store import files
from vmctl.wait import Deadline

if TYPE_CHECKING:
    from paramiko import HostKeys, PKey, Transport

POLL = 0.02
KEEPALIVE = 15  # seconds
INTERACTIVE = "keyboard-interactive"
"""How a server asks whose PAM does the talking; many allow nothing else besides keys."""


class HostKeyWrong(Unreachable):
    """Whoever answers is not the machine that vmctl made."""


class LoginRefused(Unreachable):
    """The machine answers, but takes neither key nor password."""


class Broken(Unreachable):
    """The connection ended, or what answers does not speak SSH."""


def authenticated(login: Login, sock: socket.socket, deadline: Deadline) -> Transport:
    """Log in over a fresh TCP connection; ``sock`` belongs to the transport, and is closed on failure.

    Raises:
        HostKeyWrong, LoginRefused, Broken: as their names say; ``Broken`` also when the deadline passes.
        Interrupted: the user asked to stop.
    """
    import paramiko

    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it logs tracebacks of what is told as errors here
    known = paramiko.HostKeys(str(login.known_hosts) if files.exists(login.known_hosts) else None)
    transport = None
    try:
        # Each command is several small packets: without this, each waits for the answer to the one before (40 ms).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(sock)
        _authenticate(transport, login, known, deadline)
    except (paramiko.SSHException, EOFError, OSError) as error:
        _close(transport, sock)
        raise Broken(f"{login.machine}: the SSH connection broke", details=_reason(error)) from error
    except BaseException:
        _close(transport, sock)
        raise
    transport.set_keepalive(KEEPALIVE)
    return transport


def _close(transport: Transport | None, sock: socket.socket) -> None:
    if transport is not None:
        transport.close()
    sock.close()


def _authenticate(transport: Transport, login: Login, known: HostKeys, deadline: Deadline) -> None:
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = max(deadline.left(), 1.0)
    if kinds := known.lookup(login.machine):
        transport.get_security_options().key_types = tuple(kinds)
    negotiated = threading.Event()
    transport.start_client(event=negotiated)
    _await(negotiated, transport, deadline)
    if login.first_key is None or files.exists(login.known_hosts):
        _check_host_key(transport.get_remote_server_key(), login, known)
    keys = [key for key in (login.key, login.first_key) if key]
    if any(_takes_key(transport, login, key, deadline) for key in keys):
        return
    secret = login.first_password
    if secret is None or not _takes_password(transport, login, secret, deadline):
        raise _refused(login)


def _takes_key(transport: Transport, login: Login, key: Path, deadline: Deadline) -> bool:
    """Whether the guest lets us in with a key."""
    import paramiko

    answered = threading.Event()
    transport.auth_publickey(login.user, _load_key(login, key), event=answered)
    with contextlib.suppress(paramiko.AuthenticationException):
        _await(answered, transport, deadline)
    return transport.is_authenticated()


def _takes_password(transport: Transport, login: Login, secret: Path, deadline: Deadline) -> bool:
    """Whether the guest lets us in with the password in the file ``secret``, whichever way it asks for one."""
    import paramiko

    password, answered = files.read(secret).decode(), threading.Event()
    transport.auth_password(login.user, password, event=answered, fallback=False)
    try:
        _await(answered, transport, deadline)
    except paramiko.BadAuthenticationType as error:
        return INTERACTIVE in error.allowed_types and _takes_answers(transport, login, password, deadline)
    except paramiko.AuthenticationException:
        return False
    return transport.is_authenticated()


def _takes_answers(transport: Transport, login: Login, password: str, deadline: Deadline) -> bool:
    """Whether it takes the password as the answer to what it asks; a prompt that echoes asks for something else."""
    import paramiko
    from paramiko.auth_handler import AuthHandler

    def answer(_title: str, _instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str]:
        return ["" if echoes else password for _prompt, echoes in prompts]

    answered = threading.Event()
    transport.auth_handler = AuthHandler(transport)  # as paramiko does, whose own call cannot be interrupted
    transport.auth_handler.auth_interactive(login.user, answer, answered)
    try:
        _await(answered, transport, deadline)
    except paramiko.AuthenticationException:
        return False
    return transport.is_authenticated()


def _await(event: threading.Event, transport: Transport, deadline: Deadline) -> None:
    """Wait for paramiko's thread; its exception, if any, is raised here."""
    import paramiko

    while not event.wait(POLL):
        interrupt.check()
        if deadline.passed:
            raise paramiko.SSHException("no answer in time")
        if not transport.is_active():
            break
    if error := transport.get_exception():
        raise error
    if not transport.is_active():
        raise EOFError


def _check_host_key(key: PKey, login: Login, known: HostKeys) -> None:
    if not known.check(login.machine, key):
        where = f"{login.address.host}:{login.address.port}"
        raise HostKeyWrong(
            f"{login.machine}: what answers on {where} has another SSH host key than the machine",
            details=f"{where} shows {key.get_name()} {key.fingerprint}; expected is the key in {login.known_hosts}",
            hint=f"vmctl logs {login.machine}    # is it the machine that answers? vmctl port shows what is forwarded",
        )


def _load_key(login: Login, key: Path) -> PKey:
    import paramiko
    from paramiko.pkey import UnknownKeyType

    try:
        return paramiko.PKey.from_path(key)
    except (OSError, paramiko.SSHException, UnknownKeyType, ValueError) as error:
        raise VmctlError(
            f"{login.machine}: its private key {key} cannot be read",
            details=f"{error}\nWithout it nobody gets in; a backup of the file would do.",
            hint=f"ls -l -- {shlex.quote(str(key))}",
        ) from error


def _refused(login: Login) -> LoginRefused:
    if login.first_key:
        own = "own key and password" if login.first_password else "own key"
        return LoginRefused(
            f"{login.machine}: the guest refuses user {login.user}, with the machine's key and with its box's",
            details=f"It took no user and key from a seed, and it is not made for this user and the box's {own}.",
            hint="vmctl box add --user USER --password-file FILE …   # if the box has another login user or a password",
        )
    return LoginRefused(
        f"{login.machine}: the guest refuses user {login.user} with the machine's key",
        details="The guest did not take the user and key from its seed: what reads it there (cloud-init, or vmctl-seed"
        " in vmctl's own boxes) is missing, failed or is not done.",
        hint=f"vmctl logs {login.machine}",
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "the other side closed the connection"
    return str(error) or type(error).__name__
