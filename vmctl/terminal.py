r"""Text from boxes, guests, servers and Vmfiles, made harmless for the terminal that shows it.

A terminal obeys what it shows: escape sequences move the cursor, rename the window or answer as if the user typed, a
carriage return hides what came before it, and bidirectional overrides make text read as another. Such characters are
shown in Python's notation (``\x1b``) instead of being sent. Colours are kept where a program's output is shown.
"""

from __future__ import annotations

import json
import re

HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2060-\u206f\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Controls (C0 but tab and newline, DEL, C1), line separators, bidirectional embeddings, overrides and isolates,
invisible tags, and halves of characters."""
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""The part of ``HARMFUL`` that no file or program that reads vmctl's answer has a use for."""
SEQUENCE = re.compile(r"(\x1b\[[0-9;]*m)|\x1b\[[0-9;?]*[A-Za-z]")
RESET = "\x1b[0m"
ENDED = ("", RESET, "\x1b[m")
CONCEALED = "8"
EXTENDED = frozenset({"38", "48", "58"})
EXTENDED_PARAMETERS = {"5": 2, "2": 4}
"""What follows 38, 48 or 58: ``5;N`` or ``2;R;G;B`` (ECMA-48 SGR, ISO 8613-6)."""


def harmless(text: str) -> str:
    """The text with every harmful character in visible notation; it stays what it is if it has none."""
    return text if text.isprintable() else HARMFUL.sub(_visible, text)


def one_line(text: str) -> str:
    """As ``harmless``; what follows a newline is indented, so that it cannot pass for a line of vmctl's own."""
    return harmless(text).replace("\n", "\n  ")


def answer(text: str) -> str:
    """What goes to a file or another program: only controls are made visible, the rest is the reader's to judge."""
    return text if text.isprintable() else CONTROLS.sub(_visible, text)


def output(line: str) -> str:
    """A line of a program's output: colours stay (they end with the line), other sequences are left out."""
    line = line.rstrip("\r")
    if line.isprintable():
        return line
    parts, end, color = [], 0, ""
    for found in SEQUENCE.finditer(line):
        parts.append(one_line(line[end : found.start()]))
        if found[1]:
            parts.append(color := _color(found[1]))
        end = found.end()
    parts.append(one_line(line[end:]))
    return "".join(parts) + (RESET if color not in ENDED else "")


def as_json(value: object, *, ascii_only: bool = False) -> str:
    """One line of JSON (RFC 8259) that a terminal can show: harmful characters are escaped, in JSON's notation."""
    text = json.dumps(value, default=str, ensure_ascii=ascii_only)
    return text if text.isprintable() else HARMFUL.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _visible(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _color(sequence: str) -> str:
    """The sequence without the parameter that makes text invisible."""
    kept: list[str] = []
    parameters = iter(sequence[2:-1].split(";"))
    for one in parameters:
        if one.lstrip("0") == CONCEALED:
            continue
        kept.append(one)
        if one in EXTENDED and (kind := next(parameters, None)) is not None:
            kept.append(kind)
            kept += [value for _, value in zip(range(EXTENDED_PARAMETERS.get(kind, 1) - 1), parameters, strict=False)]
    return f"\x1b[{';'.join(kept)}m" if kept else ""
