import io
import json
import re

import pytest

from vmctl.console import Console, error_text
from vmctl.errors import Interrupted, UsageError
from vmctl.events import Notice, Output, Progress, StepDone, StepStarted, Warned
from vmctl.live import LiveView, amount
from vmctl.units import readable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


EVENTS = [
    StepStarted(machine="web", step="start", text="starting"),
    Progress(machine="web", step="start", done=50, total=100),
    StepDone(machine="web", step="start", seconds=1.25),
    Output(machine="web", line="ok: [web]", source="ansible"),
    Notice(text="folders use rsync"),
    Warned(machine="db", text="slow", hint="kvm-ok"),
]


def test_plain_lines_without_a_terminal() -> None:
    err = io.StringIO()
    console = Console(out=io.StringIO(), err=err)
    for event in EVENTS:
        console.report(event)
    assert err.getvalue().splitlines() == [
        "web: starting",
        "web:   ok: [web]",
        "folders use rsync",
        "db: warning: slow (kvm-ok)",
    ]


def test_verbose_tells_when_steps_end() -> None:
    err = io.StringIO()
    Console(out=io.StringIO(), err=err, verbosity=1).report(EVENTS[2])
    assert err.getvalue() == "web: start done in 1.2 s\n"


def test_quiet_shows_results_and_errors_only() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out=out, err=err, quiet=True)
    for event in EVENTS:
        console.report(event)
    console.result({}, "text")
    console.error(UsageError("no"))
    assert (out.getvalue(), err.getvalue()) == ("text\n", "error: no\n")


def test_json_is_one_object_a_line_on_standard_output() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(json=True, out=out, err=err)
    for event in EVENTS:
        console.report(event)
    console.result({"event": "result", "changed": True}, "never shown")
    console.error(Interrupted(15))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [
        "step-started", "progress", "step-done", "output", "notice", "warned", "result", "error",
    ]  # fmt: skip
    assert lines[0] == {"event": "step-started", "machine": "web", "step": "start", "text": "starting"}
    assert lines[-1] == {
        "event": "error", "kind": "Interrupted", "brief": "terminated", "details": "", "hint": "", "exit_code": 143,
    }  # fmt: skip
    assert err.getvalue() == ""


def test_an_error_has_three_parts() -> None:
    error = UsageError("brief", details="one\ntwo", hint="vmctl up")
    assert error_text(error, color=False) == "error: brief\n  one\n  two\nhint: vmctl up"
    assert "\x1b[31;1merror:\x1b[0m brief" in error_text(error, color=True)


def test_the_live_view_keeps_what_ended_and_erases_what_ran() -> None:
    terminal = Terminal()
    view = LiveView(terminal, color=False, verbosity=0)
    for event in EVENTS:
        view.show(event)
    view.close()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "✓ web starting  1.2 s" in text
    assert "ok: [web]" in text
    assert "! db slow (kvm-ok)" in text


def test_steps_without_a_text_show_only_when_asked() -> None:
    for verbosity, shown in ((0, False), (1, True)):
        terminal = Terminal()
        view = LiveView(terminal, color=False, verbosity=verbosity)
        view.show(StepStarted(machine="web", step="make_keys"))
        view.show(StepDone(machine="web", step="make_keys"))
        view.close()
        assert ("make_keys" in terminal.getvalue()) is shown


def test_a_terminal_gets_the_live_view() -> None:
    terminal = Terminal()
    console = Console(out=io.StringIO(), err=terminal)
    console.report(EVENTS[0])
    console.report(EVENTS[2])
    console.close()
    assert "✓" in terminal.getvalue()


def test_amounts_for_people() -> None:
    assert readable(512) == "512 B"
    assert readable(3 * 1024**3) == "3.0 GiB"
    assert readable(2.5 * 1024**4) == "2.5 TiB"
    assert amount(Progress(step="s", done=1, total=4)) == "25% of 4 B"
    assert amount(Progress(step="s", done=3, total=40, unit="tasks")) == "3/40 tasks"
    assert amount(Progress(step="s", done=2048)) == "2.0 KiB"
    assert amount(Progress(step="s", done=11.3713, unit="seconds")) == "11 s"


def test_the_live_view_tells_a_time_once() -> None:
    terminal = Terminal()
    view = LiveView(terminal, color=False, verbosity=0)
    view.show(StepDone(step="up", seconds=136.3, text="debian-12: up passed in 136.3 s"))
    view.show(StepDone(step="site", seconds=2.5, text="site: web 4 ok"))
    view.close()
    assert terminal.getvalue().count("136.3 s") == 1
    assert "✓ site: web 4 ok  2.5 s" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


@pytest.mark.parametrize(("columns", "stars"), [(60, 40), (80, 60), (100, 62), (20, 3)])
def test_a_heading_of_ansibles_has_no_more_stars_than_there_is_room(
    monkeypatch: pytest.MonkeyPatch, columns: int, stars: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    view = LiveView(terminal, color=False, verbosity=0)
    view.show(Output(machine="", line="PLAY [webservers] " + 62 * "*", source="ansible"))
    view.show(Output(machine="", line="a script prints **", source="shell"))
    view.close()
    assert re.findall(r"\*+", terminal.getvalue()) == [stars * "*", "**"]
