"""What may hold a secret is not written down: in the log, in the journal, beside a lock.

Hidden are values of ``--set``, user names and passwords of URLs, and what runs in a guest (``exec``, ``ssh -c``). What
the command line told is hidden wherever it turns up afterwards: in another program's arguments, in an error, in a
traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

HIDDEN = "…"
SHORTEST = 3  # characters; a shorter value would hide half of what is written
LOGIN = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?P<login>[^/?#\s'\"]*)@")
SET = re.compile(r"(?s)(?P<key>[\w.]+)=(?P<value>.*)")
RUNS = ("-c", "--command")
_learned: set[str] = set()


def learn(argv: Sequence[str]) -> None:
    """Hide, from now on, what vmctl's own command line has that may be secret. Forgets what an earlier one had."""
    _learned.clear()
    _learned.update(value for value in _secrets(argv) if len(value) >= SHORTEST)


def _secrets(argv: Sequence[str]) -> Iterator[str]:
    for before, word in zip(("", *argv), argv, strict=False):
        value = word if before == "--set" else word.removeprefix("--set=") if word.startswith("--set=") else ""
        if found := SET.fullmatch(value):
            yield found["value"]
        for login in LOGIN.finditer(word):
            yield login["login"]
            yield login["login"].partition(":")[2]


def text(written: str) -> str:
    """What may be written down of a text."""
    for secret in sorted(_learned, key=len, reverse=True):
        written = written.replace(secret, HIDDEN)
    return LOGIN.sub(rf"\g<scheme>{HIDDEN}@", written)


def command(argv: Sequence[str]) -> str:
    """Vmctl's own command line, for people who wait for it."""
    words = list(argv)
    if "exec" in words:
        words = [*words[: words.index("exec") + 2], HIDDEN]
    shown = [HIDDEN if before in RUNS else _of_option(word) for before, word in zip(("", *words), words, strict=False)]
    return text(" ".join(["vmctl", *(_of_set(word) for word in shown)]))


def _of_option(word: str) -> str:
    """A word that may be ``-cCOMMAND`` or ``--command=COMMAND``."""
    if word.startswith("--command="):
        return f"--command={HIDDEN}"
    return f"-c{HIDDEN}" if word.startswith("-c") and word != "-c" else word


def _of_set(word: str) -> str:
    key = word.removeprefix("--set=")
    found = SET.fullmatch(key)
    return word[: len(word) - len(found["value"])] + HIDDEN if found else word


def program(argv: Sequence[str]) -> tuple[str, ...]:
    """Another program's arguments: of ssh, nothing that it runs elsewhere."""
    words = tuple(argv)
    if words and words[0].rpartition("/")[2] == "ssh" and "--" in words:
        host = words.index("--") + 1
        return (*words[: host + 1], *([HIDDEN] if len(words) > host + 1 else []))
    return words
