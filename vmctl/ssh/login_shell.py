"""What a host's login shell is told, so that every shell reads it the same, and where the answer begins.

Start-up files (``~/.bashrc``, a forced command) may print before what was asked for runs. So that goes unread: each
command line prints ``MARK`` first, and the answer is what comes after it. Without the mark nothing of ours has run.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from vmctl.errors import Unreachable

MARK = "vmctl: the answer begins"
_APART = set("\\'!")
"""What fish, csh or POSIX shells would read in a way of their own between single quotes."""


def line(argv: Sequence[str]) -> str:
    """The command line that prints the mark and becomes ``argv``."""
    return f"echo {quoted([MARK])}; exec {quoted(argv)}"


def quoted(argv: Sequence[str]) -> str:
    """As ``shlex.join``, for POSIX shells, fish and csh alike (csh, but for line breaks)."""
    return " ".join(_word(word) for word in argv)


def _word(word: str) -> str:
    if not set(word) & _APART:
        return shlex.quote(word)
    parts = [""]
    for character in word:
        if character in _APART:
            parts += [f"\\{character}", ""]
        else:
            parts[-1] += character
    return "".join(part if part.startswith("\\") else part and f"'{part}'" for part in parts)


def answer(printed: str) -> str | None:
    """What comes after the mark; None: there is none."""
    _, mark, after = printed.partition(f"{MARK}\n")
    return after if mark else None


def must_answer(host: str, printed: str, errors: str, hint: str) -> str:
    """As ``answer``, of a command that has ended.

    Args:
        host: its name, for the error.
        printed: what came on standard output.
        errors: what came on standard error.
        hint: the command that goes into the host.

    Raises:
        Unreachable: the mark did not come.
    """
    found = answer(printed)
    if found is None:
        raise Unreachable(
            f"{host}: the login shell did not run what it was told",
            details=(printed + errors).strip() or "It printed nothing. Is it a shell, and is no other command forced?",
            hint=hint,
        )
    return found


class Lines:
    """Passes on the lines that come after the mark; ``seen`` once it has come."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.seen = False
        self._on_line = on_line

    def __call__(self, text: str) -> None:
        """Take in a line, without its end."""
        if self.seen:
            self._on_line(text)
        else:
            self.seen = text.endswith(MARK)
