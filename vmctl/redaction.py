"""What may hold a secret is not written down: in the log, in the journal, beside a lock.

Hidden are values of ``--set``, user names and passwords of URLs (of ``ssh://`` the password alone), secrets in their
queries, what runs in a guest (``exec``, ``ssh -c``), and the arguments of programs that a Vmfile names. What the
command line told is hidden wherever it turns up afterwards: in another program's arguments, in a traceback. Errors and
events (``urls``) show no secret of a URL either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

HIDDEN = "…"
SHORTEST = 3  # characters; a shorter value would hide half of what is written
# Bounded: a guest's output may be one long word of dots, each of which a scheme could begin after.
LOGIN = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{0,30}://)(?P<login>[^/?#\s'\"]*)@")
QUERY = re.compile(
    r"(?i)(?P<name>[?&;][\w.-]*(?:token|passw(?:or)?d|secret|signature|credential|api-?_?key|\bsig)=)[^&;#\s'\"]+"
)
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
    return urls(written)


def urls(written: str) -> str:
    """A text without the secrets of the URLs in it; cheap where there is none."""
    if "://" not in written:
        return written
    return QUERY.sub(rf"\g<name>{HIDDEN}", LOGIN.sub(_without_login, written))


def _without_login(found: re.Match[str]) -> str:
    user, colon, _ = found["login"].partition(":")
    if found["scheme"].endswith("ssh://"):  # its user is no secret, and a part of the host's name for people
        return f"{found['scheme']}{user}{colon and ':' + HIDDEN}@"
    return f"{found['scheme']}{HIDDEN}@"


def facts(value: Any) -> Any:
    """What may be written down of JSON's values: the texts, not the names of an object."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {name: facts(one) for name, one in value.items()}
    return [facts(one) for one in value] if isinstance(value, list | tuple) else value


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


def program(argv: Sequence[str], *, named: bool = False) -> tuple[str, ...]:
    """Another program's arguments: of ssh, nothing that it runs elsewhere; of one that a Vmfile has ``named``, none."""
    words = tuple(argv)
    if named:
        return (*words[:1], *([HIDDEN] if len(words) > 1 else []))
    if words and words[0].rpartition("/")[2] == "ssh" and "--" in words:
        host = words.index("--") + 1
        return (*words[: host + 1], *([HIDDEN] if len(words) > host + 1 else []))
    return words
