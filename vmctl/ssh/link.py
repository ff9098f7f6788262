"""An open way into a host: what provisioners need of it, however it was made (``Connection``, ``OpenSsh``)."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from vmctl.errors import VmctlError, in_words
from vmctl.process import CommandFailed, Completed

logger = logging.getLogger(__name__)

OnLine = Callable[[str], None]
# $1 is the target, $2 its mode: the content appears whole or not at all.
PUT_SCRIPT = (
    'set -e; part="$1.vmctl-part.$$"; trap \'rm -f "$part"\' EXIT; '
    'umask 077; cat >"$part"; chmod "$2" "$part"; mv -f "$part" "$1"'
)


class Link(ABC):
    """An open connection to a host; close it, or use it in a ``with`` block."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The host's name, for messages."""

    @abstractmethod
    def close(self) -> None:
        """End the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def run(
        self,
        command: str | Sequence[str],
        *,
        input: str | bytes | None = None,
        sudo: bool = False,
        check: bool = True,
        deadline: float | None = None,
        env: Mapping[str, str] | None = None,
        on_line: OnLine | None = None,
    ) -> Completed:
        """Run a command in the host to its end.

        Args:
            command: an argv (passed exactly), or text for ``sh -c``.
            input: what it reads; without it, standard input is empty.
            sudo: run it as root, which needs no sudo where root logs in.
            check: raise on a non-zero status.
            deadline: seconds allowed.
            env: variables to add to its environment.
            on_line: called with each line of its output (both streams) as it comes.

        Returns:
            What it printed, and its status; 128 when a signal ended it.

        Raises:
            CommandFailed: non-zero status (with ``check``), or the deadline passed.
            Unreachable: the connection broke.
            Interrupted: the user asked to stop; the host's program gets a hang-up.
        """
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        shown = (command,) if isinstance(command, str) else tuple(command)
        if env:
            argv = ["env", *(f"{key}={value}" for key, value in env.items()), *argv]
        data = input.encode() if isinstance(input, str) else input
        started = time.monotonic()
        status, out, err = self._execute(argv, data, sudo=sudo, deadline=deadline, on_line=on_line)
        program = shown[0].split(maxsplit=1)[:1]  # its arguments are the Vmfile's: they may hold secrets
        logger.debug("%s: %s -> %s in %.2f s", self.name, program, status, time.monotonic() - started)
        completed = Completed(shown, -1 if status is None else status, out, err)
        if status is None:
            raise CommandFailed(completed, reason=f"did not end within {deadline or 0:g} s in {self.name}")
        if check and status != 0:
            raise CommandFailed(completed, reason=f"ended with status {status} in {self.name}")
        return completed

    def put(self, source: bytes | Path, remote: str, *, mode: int = 0o644, sudo: bool = False) -> None:
        """Write a file in the host; it appears whole or not at all.

        Args:
            source: the content, or a file here (held in memory meanwhile: for small files).
            remote: its path in the host; the directory must exist.
            mode: its permission bits.
            sudo: write it as root.

        Raises:
            VmctlError: ``source`` cannot be read.
            CommandFailed, Unreachable, Interrupted: as for ``run``.
        """
        try:
            content = source.read_bytes() if isinstance(source, Path) else source
        except OSError as error:
            raise VmctlError(f"{source!s} cannot be read", details=in_words(error)) from error
        self.run(["sh", "-c", PUT_SCRIPT, "sh", remote, f"{mode:o}"], input=content, sudo=sudo)

    @abstractmethod
    def _execute(
        self, argv: list[str], data: bytes | None, *, sudo: bool, deadline: float | None, on_line: OnLine | None
    ) -> tuple[int | None, str, str]:
        """Run a command: its status (None = the deadline passed), and what it printed to either stream."""
