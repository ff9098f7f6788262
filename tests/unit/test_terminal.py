"""What vmctl prints cannot command the terminal, whoever wrote it."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmctl import terminal
from vmctl.cli.report import table
from vmctl.console import Console
from vmctl.errors import VmctlError
from vmctl.events import Event, Notice, Output, StepDone, StepStarted, Warned

OBEYED = "\x1b\x9b\x9d\x90\x07\x08\r\x00\x7f\u202e\u2066\u2028\U000e0041\udc80"
EVIL = f"box{OBEYED}\x1b[2J\x1b]0;title\x07\x1b]52;c;cm0=\x07\x1b[8mhidden\nerror: forged"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def commands(text: str) -> set[str]:
    """Characters in it that terminals obey, besides colours and what rich's live view sends of its own."""
    return set(text) & set(OBEYED)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe ☃ 日本 🎉 é", "größe ☃ 日本 🎉 é"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb\x07\x7f", "a\\rb\\x07\\x7f"),
        ("\u202ecod.exe", "\\u202ecod.exe"),
        ("\U000e0041", "\\U000e0041"),
        ("\udcff", "\\udcff"),
        ("👩\u200d🚀 a\xa0b", "👩\u200d🚀 a\xa0b"),
    ],
)
def test_harmful_characters_are_shown_and_all_others_stay(text: str, shown: str) -> None:
    assert terminal.harmless(text) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[0;32mok\x1b[0m: [web]", "\x1b[0;32mok\x1b[0m: [web]"),
        ("\x1b[31mred", "\x1b[31mred\x1b[0m"),
        ("100%\r", "100%"),
        ("hidden\rshown", "hidden\\rshown"),
        ("\x1b[2J\x1b[1;1Hclear", "clear"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[8mconcealed\x1b[0m", "concealed\x1b[0m"),
        ("\x1b[1;8mx\x1b[m", "\x1b[1mx\x1b[m"),
        ("\x1b[38;5;8mgrey\x1b[0m", "\x1b[38;5;8mgrey\x1b[0m"),
        ("\x1b[48;2;8;8;8mx\x1b[0m", "\x1b[48;2;8;8;8mx\x1b[0m"),
        ("\x1b[?25l\x9b31mx", "\\x9b31mx"),
    ],
)
def test_a_program_keeps_its_colours_and_nothing_else(line: str, shown: str) -> None:
    assert terminal.output(line) == shown


@given(st.text())
def test_no_text_commands_a_terminal(text: str) -> None:
    assert not terminal.HARMFUL.search(terminal.harmless(text))
    assert not terminal.HARMFUL.search(terminal.SEQUENCE.sub("", terminal.output(text)))
    written = terminal.as_json({"x": text})
    assert not terminal.HARMFUL.search(written)
    assert "\n" not in written
    assert json.loads(written) == {"x": text}


@pytest.mark.parametrize(
    "event",
    [
        StepStarted(machine=EVIL, step=EVIL, text=EVIL),
        StepDone(machine=EVIL, step=EVIL, text=EVIL),
        StepDone(machine=EVIL, step=EVIL, seconds=2),
        Notice(machine=EVIL, text=EVIL),
        Warned(machine=EVIL, text=EVIL, hint=EVIL),
        Output(machine=EVIL, line=EVIL, source=EVIL),
    ],
)
def test_every_kind_of_event_is_harmless_in_lines_and_in_json(event: Event) -> None:
    out, err = io.StringIO(), io.StringIO()
    Console(out=out, err=err, verbosity=1).report(event)
    assert "box" in err.getvalue()
    assert commands(err.getvalue().replace("\x1b[0m", "")) == set()
    assert "\nerror: forged" not in err.getvalue()
    Console(json=True, out=out, err=err).report(event)
    assert commands(out.getvalue()) == set()
    machine = json.loads(out.getvalue())["machine"]
    assert machine == EVIL


@pytest.mark.parametrize("event", [Notice(text=EVIL), Warned(text=EVIL, hint=EVIL), StepDone(step="s", text=EVIL)])
def test_the_live_view_is_harmless(event: Event) -> None:
    err = Terminal()
    console = Console(out=io.StringIO(), err=err)
    console.report(event)
    console.close()
    for sent in ("\x1b]", "\x9b", "\x9d", "\u202e", "\x07", "\x1b[2J", "\x1b[8m"):
        assert sent not in err.getvalue()
    assert "\\x1b]52;c;cm0=\\x07" in err.getvalue()


def test_no_cell_of_a_table_passes_for_a_row_of_its_own() -> None:
    rows = table(("NAME", "OF"), [("web\ndb", "x"), ("a", "y")]).splitlines()
    assert rows == ["NAME     OF", r"web\ndb  x", "a        y"]


def test_errors_and_answers_are_harmless() -> None:
    out, err = Terminal(), io.StringIO()
    console = Console(out=out, err=err)
    console.result({}, f"NAME  BOX\nweb   {EVIL}")
    console.error(VmctlError(EVIL, details=EVIL, hint=EVIL))
    console.output(Output(machine="web", line=EVIL))
    assert commands(out.getvalue() + err.getvalue()) == set()
    assert "\nerror: forged" not in err.getvalue()
    assert "\\x1b]0;title\\x07" in out.getvalue()


def test_programs_get_output_as_it_came_and_answers_without_controls() -> None:
    out = io.StringIO()
    console = Console(out=out, err=io.StringIO())
    console.output(Output(line="a\x1b[1mb\rc"))
    console.result({}, "rtl \u202e esc \x1b[2J")
    assert out.getvalue() == "a\x1b[1mb\rc\nrtl \u202e esc \\x1b[2J\n"
