from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from vmctl.errors import UsageError
from vmctl.events import Event, Warned
from vmctl.provision import scripts
from vmctl.spec import Shell


@pytest.mark.parametrize(
    ("written", "runs"),
    [
        (b"#!/bin/bash\r\nset -e\r\n", b"#!/bin/bash\nset -e\n"),
        (b"mkdir x\r\n", b"mkdir x\n"),
        (b"\xef\xbb\xbf#!/bin/sh\necho\n", b"#!/bin/sh\necho\n"),
        (b"\xef\xbb\xbf#!/bin/sh\r\necho\r\nlast", b"#!/bin/sh\necho\nlast"),
        (b"#!/bin/sh\nprintf 'GET /\r\n'\n", b"#!/bin/sh\nprintf 'GET /\r\n'\n"),
        (b"\x7fELF\r\n\0\r\n", b"\x7fELF\r\n\0\r\n"),
        (b"no end\r", b"no end\r"),
        (b"", b""),
    ],
)
def test_what_windows_has_written_runs_as_meant(written: bytes, runs: bytes) -> None:
    assert scripts.for_unix(written, "it") == runs


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_utf_16_is_refused(mark: bytes) -> None:
    with pytest.raises(UsageError, match="is UTF-16"):
        scripts.for_unix(mark + b"e\0c\0", "setup.sh")


def test_a_script_from_a_file_is_told_of_line_ends_that_it_keeps(tmp_path: Path) -> None:
    reported: list[Event] = []
    script = tmp_path / "a.sh"
    script.write_bytes(b"cat <<END\none\r\ntwo\r\nEND\n")
    assert scripts.content(Shell(name="a", script=script), reported.append) == script.read_bytes()
    assert reported == [Warned(text="the script of a.sh (provisioner 'a') has CRLF line ends on some lines: 2, 3")]
    script.write_bytes(b"echo\r\n")
    assert scripts.content(Shell(name="a", script=script), reported.append) == b"echo\n"
    assert scripts.content(Shell(name="a", inline="echo\r\n"), reported.append) == b"echo\n"
    assert len(reported) == 1


@pytest.mark.parametrize(
    ("script", "argv"),
    [
        (b"#!/bin/bash\necho", ["/bin/bash"]),
        (b"#!/usr/bin/env python3\n", ["/usr/bin/env", "python3"]),
        (b"#! /bin/sh -e -u \n", ["/bin/sh", "-e -u"]),
        (b"#!/bin/bash\r\necho", ["/bin/bash"]),
        (b"#!\necho", ["sh"]),
        (b"echo #!/bin/bash", ["sh"]),
        (b"", ["sh"]),
    ],
)
def test_the_first_line_chooses_the_interpreter(script: bytes, argv: list[str]) -> None:
    assert scripts.interpreter(script, inline=False) == argv


def test_inline_text_stops_at_the_first_failure_unless_it_chooses_itself() -> None:
    assert scripts.interpreter(b"false\n", inline=True) == ["sh", "-e"]
    assert scripts.interpreter(b"#!/bin/sh\nfalse\n", inline=True) == ["/bin/sh"]
