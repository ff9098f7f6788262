"""A way into a guest that answers from a table, and keeps what was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vmctl.ssh.link import Link, OnLine

Answer = tuple[int, str]
Reply = Callable[[str], Answer]
"""From a command's words, joined by spaces, to its status and what it prints."""


@dataclass
class ScriptedLink(Link):
    reply: Reply
    asked: list[str] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "web"

    def close(self) -> None:
        pass

    def put(self, source: bytes | Path, remote: str, *, mode: int = 0o644, sudo: bool = False) -> None:
        raise AssertionError(remote)

    def _execute(
        self, argv: list[str], data: bytes | None, *, sudo: bool, deadline: float | None, on_line: OnLine | None
    ) -> tuple[int, str, str]:
        words = " ".join(argv)
        self.asked.append(("sudo " if sudo else "") + words)
        if data is not None:
            self.sent.append(data)
        status, out = self.reply(words)
        return status, out, "" if status == 0 else "it said no"
