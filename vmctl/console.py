"""The only printer: events and results become a live terminal view, plain lines, or JSON lines.

What it prints may come from boxes, guests and servers, so all of it goes through ``vmctl.terminal``.

Results go to standard output. While a command works, its events go to standard error (terminal and plain lines) or,
with --json, to standard output as one object a line; an action's last line is ``{"event": "result", …}``. A query's
only object is its answer.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from msgspec import structs

from vmctl import redaction, terminal
from vmctl.errors import VmctlError
from vmctl.events import Event, Notice, Output, Progress, StepDone, StepStarted, Warned

if TYPE_CHECKING:
    from vmctl.live import LiveView

COLOR = re.compile(r"\x1b\[[0-9;]*[mK]")


class Console:
    """Renders what commands tell. Safe to call from several threads."""

    def __init__(
        self,
        *,
        json: bool = False,
        verbosity: int = 0,
        quiet: bool = False,
        color: bool | None = None,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self.json = json
        self.query = False
        """Whether the answer is one object: with --json, events then go to standard error as plain lines."""
        self.verbosity = verbosity
        self.quiet = quiet
        self.color = color
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self._lock = threading.Lock()
        self._live: LiveView | None = None

    def report(self, event: Event) -> None:
        """Show one event, without secrets of URLs: what programs print is theirs, and stays as it is."""
        if not isinstance(event, Output):
            event = _without_secrets(event)
        with self._lock:
            if self.json and not self.query:
                self._print_json(event_object(event))
            elif not self.quiet:
                self._render(displayable(event))

    def _render(self, event: Event) -> None:
        if self.is_live:
            self._view().show(event)
        elif line := plain_line(event, self.verbosity):
            self.err.write(line + "\n")
            self.err.flush()

    @property
    def is_live(self) -> bool:
        """Whether a person watches: standard error is a terminal."""
        return self.err.isatty()

    def _view(self) -> LiveView:
        if self._live is None:
            from vmctl.live import LiveView

            self._live = LiveView(self.err, color=self.color, verbosity=self.verbosity)
        return self._live

    def output(self, event: Output) -> None:
        """Show a line of a program's output as part of the answer: on standard output.

        A program gets the line as it came, a terminal one that is harmless.
        """
        if self.json:
            self.report(event)
            return
        self.close()
        with self._lock:
            line = terminal.output(event.line) if self.out.isatty() else event.line
            self.out.write((f"{event.machine}: " if event.machine else "") + line + "\n")
            self.out.flush()

    def result(self, data: Mapping[str, Any], text: str = "") -> None:
        """Show a query's answer: ``data`` with --json, else ``text``."""
        self.close()
        with self._lock:
            if self.json:
                self._print_json(data)
            elif text:
                shown = terminal.harmless(text) if self.out.isatty() else terminal.answer(text)
                self.out.write(shown.rstrip("\n") + "\n")
                self.out.flush()

    def error(self, error: VmctlError) -> None:
        """Show why the command failed."""
        self.close()
        with self._lock:
            if self.json:
                self._print_json({"event": "error", **error_object(error)})
            else:
                self.err.write(error_text(error, color=self._colored()) + "\n")
                self.err.flush()

    def _colored(self) -> bool:
        return self.is_live if self.color is None else self.color

    def _print_json(self, data: Mapping[str, Any]) -> None:
        writes_unicode = (getattr(self.out, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
        self.out.write(terminal.as_json(data, ascii_only=not writes_unicode) + "\n")
        self.out.flush()

    def close(self) -> None:
        """End the live view, if any; the console can be used again."""
        with self._lock:
            if self._live is not None:
                self._live.close()
                self._live = None


def _without_secrets(event: Event) -> Event:
    found = {name: value for name, value in structs.asdict(event).items() if isinstance(value, str) and "://" in value}
    return structs.replace(event, **{name: redaction.urls(value) for name, value in found.items()}) if found else event


def displayable(event: Event) -> Event:
    """The event with texts that a terminal can show."""
    texts = {name: value for name, value in structs.asdict(event).items() if isinstance(value, str)}
    shown = {name: terminal.one_line(value) for name, value in texts.items()}
    if isinstance(event, Output):
        shown["line"] = terminal.output(event.line)
    return structs.replace(event, **shown)


def event_object(event: Event) -> dict[str, Any]:
    """An event for programs; what is in colour for people is plain for them."""
    data = {"event": event_name(event), **structs.asdict(event)}
    return data | {"line": COLOR.sub("", event.line)} if isinstance(event, Output) else data


def event_name(event: Event) -> str:
    """The event's name in JSON: ``StepStarted`` is "step-started"."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(event).__name__).lower()


def error_object(error: VmctlError) -> dict[str, Any]:
    """An error for programs."""
    return {
        "kind": error.kind or type(error).__name__,
        "brief": error.brief,
        "details": error.details,
        "hint": error.hint,
        "exit_code": exit_code(error),
        **error.data,
    }


def exit_code(error: VmctlError) -> int:
    """The exit code for an error, as docs/commands.md has them."""
    number = getattr(error, "signal", 0)
    return 128 + number if number else error.exit_code


def error_text(error: VmctlError, *, color: bool) -> str:
    """An error for people: brief, details indented, hint."""
    red, dim, bold, reset = ("\x1b[31;1m", "\x1b[2m", "\x1b[1m", "\x1b[0m") if color else ("", "", "", "")
    lines = [f"{red}error:{reset} {terminal.one_line(error.brief)}"]
    lines += [f"  {dim}{line}{reset}" for line in terminal.harmless(error.details.replace("\r\n", "\n")).splitlines()]
    if error.hint:
        lines.append(f"{bold}hint:{reset} {terminal.one_line(error.hint)}")
    return "\n".join(lines)


def plain_line(event: Event, verbosity: int) -> str:  # noqa: PLR0911  one return per kind of event
    """One event as a line for logs and pipes; "" = not worth a line at this verbosity."""
    prefix = f"{event.machine}: " if event.machine else ""
    match event:
        case StepStarted(text=text) if text:
            return f"{prefix}{text}"
        case StepDone(text=text) if text:
            return f"{prefix}{text}"
        case StepDone(step=step, seconds=seconds) if verbosity:
            return f"{prefix}{step} done in {seconds:.1f} s"
        case Notice(text=text):
            return f"{prefix}{text}"
        case Warned(text=text, hint=hint):
            return f"{prefix}warning: {text}" + (f" ({hint})" if hint else "")
        case Output(line=line):
            return f"{prefix}  {line}"
        case Progress() | _:
            return ""
