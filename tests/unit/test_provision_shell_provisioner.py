from __future__ import annotations

import pytest

from vmctl import process
from vmctl.provision.scripts import interpreter
from vmctl.provision.shell_provisioner import environment


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
    assert interpreter(script, inline=False) == argv


def test_inline_text_stops_at_the_first_failure_unless_it_chooses_itself() -> None:
    assert interpreter(b"false\n", inline=True) == ["sh", "-e"]
    assert interpreter(b"#!/bin/sh\nfalse\n", inline=True) == ["/bin/sh"]


@pytest.mark.parametrize("value", ["", "a b", "it's", '"', "$HOME `id` \\", "one\ntwo\n", "żółć", "!#;&|"])
def test_values_survive_the_shell(value: str) -> None:
    done = process.run(["sh", "-c", f'{environment({"A": value})}printf %s "$A"'])
    assert done.stdout == value
