"""Errors of vmctl's own."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vmctl.errors import from_os, in_words


@pytest.mark.parametrize(
    ("number", "command"),
    [(errno.ENOSPC, "df -h"), (errno.EDQUOT, "df -h"), (errno.EROFS, "findmnt -T"), (errno.EACCES, "ls -ld")],
)
def test_what_the_system_refuses_has_a_command_that_shows_why(tmp_path: Path, number: int, command: str) -> None:
    place = tmp_path / "it's here"
    place.mkdir()
    error = from_os(OSError(number, os.strerror(number), str(place / "gone" / "ports.json")))
    assert error.brief == f"{place}/gone/ports.json: {os.strerror(number)}"
    assert error.hint == f"{command} '{tmp_path}/it'\"'\"'s here'"


def test_what_no_command_explains_has_no_hint() -> None:
    assert from_os(FileNotFoundError(errno.ENOENT, "No such file or directory", "/nowhere")).hint == ""
    assert from_os(OSError(errno.ENOSPC, "No space left on device")).hint == ""


def test_errors_are_told_in_words_not_in_pythons_spelling() -> None:
    assert in_words(PermissionError(errno.EACCES, "Permission denied", "/x")) == "/x: Permission denied"
    assert in_words(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")) == "Connection refused"
    assert in_words(OSError("cannot seek")) == "cannot seek"
    assert in_words(ValueError("no UTF-8")) == "no UTF-8"
    assert in_words(TimeoutError()) == "TimeoutError"
