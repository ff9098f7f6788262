"""Passwords that the user is asked for: typed once for a call, told to Ansible through a pipe, never written down."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vmctl import terminal
from vmctl.errors import UsageError
from vmctl.provision.failure import label
from vmctl.spec import Ansible, Provisioner

POLL = 0.05  # seconds between looks for a reader


@dataclass
class Passwords:
    """What the user has typed so far."""

    _typed: dict[str, str] = field(default_factory=dict, repr=False)

    def lacks(self, item: Provisioner) -> bool:
        """Whether the provisioner needs a password that the user has not typed yet."""
        return not _wanted(item).keys() <= self._typed.keys()

    def ask_for(self, item: Provisioner) -> None:
        """Ask for what the provisioner needs and the user has not typed yet.

        Raises:
            UsageError: there is no terminal to ask for them.
        """
        for option, what in _wanted(item).items():
            if option in self._typed:
                continue
            if not sys.stdin.isatty():
                raise UsageError(
                    f"provisioner {label(item)} asks for {what}, and there is no terminal to ask for it",
                    hint=_without_terminal(option),
                )
            import getpass

            self._typed[option] = getpass.getpass(terminal.harmless(f"{item.name}: {what}: "))

    def of(self, item: Ansible) -> dict[str, str]:
        """The words before the password's file on Ansible's command line → the password."""
        return {option: self._typed[option] for option in _wanted(item)}


def _wanted(item: Provisioner) -> dict[str, str]:
    """Option (with what comes before the file) → what it is the password of."""
    if not isinstance(item, Ansible):
        return {}
    found = {
        f"--vault-id={vault}@": f"the password of the vault '{vault}'" for vault, path in item.vault.items() if not path
    }
    if item.ask_become_pass:
        found["--become-password-file="] = "the password for become"
    return found


def _without_terminal(option: str) -> str:
    if option.startswith("--vault-id"):
        return "name a password file in the Vmfile: vault: FILE"
    return "run vmctl in a terminal, or give the machine's user sudo without a password"


@contextlib.contextmanager
def served(typed: Mapping[str, str], directory: Path) -> Iterator[list[str]]:
    """Words for Ansible's command line that name a pipe for each password; each can be read once.

    Args:
        typed: as ``Passwords.of`` gives them.
        directory: a private one, for the pipes.
    """
    with contextlib.ExitStack() as stack:
        yield [option + str(stack.enter_context(_pipe(secret, directory))) for option, secret in typed.items()]


@contextlib.contextmanager
def _pipe(secret: str, directory: Path) -> Iterator[Path]:
    path = directory / f"p{secrets.token_hex(4)}"
    os.mkfifo(path, 0o600)
    over = threading.Event()
    writer = threading.Thread(target=_serve, args=(path, secret, over), daemon=True)
    writer.start()
    try:
        yield path
    finally:
        over.set()
        writer.join()
        path.unlink(missing_ok=True)


def _serve(path: Path, secret: str, over: threading.Event) -> None:
    while not over.is_set():
        try:
            handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: nobody reads yet
                return
            over.wait(POLL)
            continue
        with os.fdopen(handle, "wb") as stream:
            stream.write(secret.encode() + b"\n")
        return
