"""Scripts as Windows leaves them: with CRLF line ends and a byte order mark, which no interpreter on Linux expects.

A script runs as its author meant it. It is taken for one of Windows when its first line ends so; a script that has such
ends further down only may want them (a text of a protocol), and keeps them.
"""

from __future__ import annotations

import codecs

from vmctl.errors import UsageError

WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def for_unix(script: bytes, name: str) -> bytes:
    """The script with LF line ends and without a byte order mark; what is no text stays as it is.

    Raises:
        UsageError: it is UTF-16, which nothing here reads.
    """
    if script.startswith(WIDE):
        raise UsageError(f"{name} is UTF-16, which no interpreter here reads", hint="save it as UTF-8")
    if b"\0" in script:
        return script
    text = script.removeprefix(codecs.BOM_UTF8)
    return text.replace(b"\r\n", b"\n") if is_of_windows(text) else text


def is_of_windows(script: bytes) -> bool:
    """Whether its first line ends in CRLF."""
    return script.split(b"\n", 1)[0].endswith(b"\r") and b"\n" in script


def mixed(script: bytes) -> list[int]:
    """The numbers of the lines that end in CRLF, where the first one does not."""
    if is_of_windows(script) or b"\0" in script:
        return []
    return [number for number, line in enumerate(script.split(b"\n")[:-1], 1) if line.endswith(b"\r")]
