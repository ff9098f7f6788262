"""A way into a guest that answers from a table, and keeps what was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from vmctl.process import CommandFailed, Completed

Answer = tuple[int, str]
Reply = Callable[[str], Answer]
"""From a command's words, joined by spaces, to its status and what it prints."""


@dataclass
class ScriptedLink:
    """As ``vmctl.ssh.link.Link``."""

    reply: Reply
    asked: list[str] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    def run(
        self,
        command: str | Sequence[str],
        *,
        input: str | bytes | None = None,
        sudo: bool = False,
        check: bool = True,
        deadline: float | None = None,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        words = (command,) if isinstance(command, str) else tuple(command)
        self.asked.append(("sudo " if sudo else "") + " ".join(words))
        if isinstance(input, bytes):
            self.sent.append(input)
        status, out = self.reply(" ".join(words))
        done = Completed(words, status, out, "" if status == 0 else "it said no")
        if check and status:
            raise CommandFailed(done)
        return done

    def put(self, source: bytes | Path, remote: str, *, mode: int = 0o644, sudo: bool = False) -> None:
        raise AssertionError(remote)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
