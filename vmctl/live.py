"""The live terminal view: finished steps scroll by, running ones stay at the bottom with a spinner and progress."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from vmctl.events import Event, Notice, Output, Progress, StepDone, StepStarted, Warned
from vmctl.units import readable

REFRESH = 8  # times a second
FEW = 3  # stars that make a heading


class LiveView:
    """Shows events on one terminal. Not thread-safe: ``Console`` serialises the calls."""

    def __init__(self, stream: TextIO, *, color: bool | None, verbosity: int) -> None:
        self._console = RichConsole(
            file=stream, highlight=False, no_color=color is False, force_terminal=True, soft_wrap=True
        )
        self._running: dict[tuple[str, str], Spinner] = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._verbosity = verbosity
        self._live = Live(console=self._console, refresh_per_second=REFRESH, transient=True)
        self._live.start()

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case StepStarted():
                self._start(event)
            case Progress():
                self._progress(event)
            case StepDone():
                self._done(event)
            case Output(line=line):
                self._print(event, self._fitting(event, Text.from_ansi(line)), "  ")
            case Notice(text=text):
                self._print(event, Text(text), "• ", "cyan")
            case Warned(text=text, hint=hint):
                self._print(event, Text(f"{text} ({hint})" if hint else text), "! ", "yellow")
        self._live.update(Group(*self._running.values()))

    def _start(self, event: StepStarted) -> None:
        if not (event.text or self._verbosity):
            return  # too quick to be worth a line
        key = (event.machine, event.step)
        self._texts[key] = event.text or event.step
        self._running[key] = Spinner("dots", text=self._label(key))

    def _label(self, key: tuple[str, str], extra: str = "") -> Text:
        label = Text(f"{key[0]} ", style="bold") if key[0] else Text()
        return label.append(self._texts[key], style="default").append(f" {extra}" if extra else "", style="dim")

    def _progress(self, event: Progress) -> None:
        key = (event.machine, event.step)
        spinner = self._running.get(key)
        if spinner is not None:
            spinner.update(text=self._label(key, amount(event)))

    def _done(self, event: StepDone) -> None:
        key = (event.machine, event.step)
        self._running.pop(key, None)
        text = event.text or self._texts.pop(key, "")
        if text and (event.changed or event.text or self._verbosity):
            line = Text(text).append(_time(event, text), style="dim")
            self._print(event, line, "✓ ", "green")

    def _print(self, event: Event, text: Text, mark: str, style: str = "") -> None:
        line = Text(mark, style=style)
        if event.machine:
            line.append(f"{event.machine} ", style="bold")
        self._console.print(line.append_text(text))

    def _fitting(self, event: Event, line: Text) -> Text:
        """A heading of Ansible's, which believes in 79 columns, with no more stars than there is room for."""
        stars = len(line.plain) - len(line.plain.rstrip("*"))
        room = self._console.width - len("  ") - (len(event.machine) + 1 if event.machine else 0)
        if (excess := min(line.cell_len - room, stars - FEW)) > 0:
            line.right_crop(excess)
        return line

    def close(self) -> None:
        """Take the running steps off the screen and give the terminal back."""
        self._live.update(Text())
        self._live.stop()


def _time(event: StepDone, text: str) -> str:
    """What to add to a step that is done: its time, if there is any to speak of and the text does not end with it."""
    took = f"{event.seconds:.1f} s"
    return "" if took == "0.0 s" or text.endswith(took) else f"  {took}"


def amount(event: Progress) -> str:
    """How far a step is: "42 % of 612.0 MiB", "3.1 GiB", "12/40 tasks", "17 s"."""
    if event.unit == "seconds":
        return f"{event.done:.0f} s"
    if event.unit != "bytes":
        return f"{event.done:g}/{event.total:g} {event.unit}" if event.total else f"{event.done:g} {event.unit}"
    if event.total:
        return f"{event.done / event.total:.0%} of {readable(event.total)}"
    return readable(event.done)
