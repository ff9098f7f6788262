"""Logging in with a password: once, to a guest that does not have the machine's key yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmctl.store import files

if TYPE_CHECKING:
    from paramiko import Transport

INTERACTIVE = "keyboard-interactive"
"""How a server asks whose PAM does the talking; many allow nothing else besides keys."""

Wait = Callable[[threading.Event], None]


def lets_in(transport: Transport, user: str, secret: Path, wait: Wait) -> bool:
    """Whether the guest takes the password in the file ``secret``, whichever way it asks for one.

    Args:
        transport: a connection that has not logged in.
        user: whose password it is.
        secret: the file; nothing but the password is in it.
        wait: waits for paramiko's thread to set the event; raises what that thread ran into.
    """
    import paramiko

    password, answered = files.read(secret).decode(), threading.Event()
    transport.auth_password(user, password, event=answered, fallback=False)
    try:
        wait(answered)
    except paramiko.BadAuthenticationType as error:
        return INTERACTIVE in error.allowed_types and _asked(transport, user, password, wait)
    except paramiko.AuthenticationException:
        return False
    return transport.is_authenticated()


def _asked(transport: Transport, user: str, password: str, wait: Wait) -> bool:
    """Whether it takes the password as the answer to what it asks; a prompt that echoes asks for something else."""
    import paramiko
    from paramiko.auth_handler import AuthHandler

    def answer(_title: str, _instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str]:
        return ["" if echoes else password for _prompt, echoes in prompts]

    answered = threading.Event()
    transport.auth_handler = AuthHandler(transport)  # as paramiko does, whose own call cannot be interrupted
    transport.auth_handler.auth_interactive(user, answer, answered)
    try:
        wait(answered)
    except paramiko.AuthenticationException:
        return False
    return transport.is_authenticated()
