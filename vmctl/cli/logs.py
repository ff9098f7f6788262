"""`vmctl logs`: what the guest wrote to its serial console."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from vmctl.cli import completion
from vmctl.cli.app import App, command
from vmctl.cli.guest_commands import only_machine
from vmctl.errors import VmctlError, WrongState, in_words
from vmctl.events import Output
from vmctl.store import files

POLL = 0.2  # seconds between looks at a console that is followed


@command()
@click.argument("name", required=False, metavar="[MACHINE]", shell_complete=completion.machines)
@click.option("-f", "--follow", is_flag=True, help="Keep showing new output, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
def logs(app: App, name: str | None, *, follow: bool, lines: int | None) -> None:
    """Show a machine's serial console output: boot loader, kernel, services, panics."""
    from vmctl.lifecycle import consoles
    from vmctl.ssh.serial import clean

    workspace, name = only_machine(app, name)
    path = workspace.layout.machine(name).console
    (machine,) = workspace.survey([name])

    def fetch() -> None:
        consoles.fetch(workspace.driver(machine.provider), machine.domain, workspace.tag(name), path)

    if machine.observed is not None:
        fetch()
    text, size = _read(path, name)
    shown = clean(text).splitlines()
    shown = shown if lines is None else shown[max(0, len(shown) - lines) :]
    if not follow:
        app.result({"machine": name, "lines": shown}, "\n".join(shown))
        return
    for line in shown:
        app.console.output(Output(line=line, source="console"))
    for line in _follow(path, size, fetch):
        app.console.output(Output(line=clean(line), source="console"))


def _read(path: Path, name: str) -> tuple[str, int]:
    try:
        data = files.read(path)
    except FileNotFoundError:
        raise WrongState(f"machine {name} has no console output yet", hint=f"vmctl up {name}") from None
    except OSError as error:
        raise VmctlError(f"{path} cannot be read", details=in_words(error)) from error
    return data.decode(errors="replace"), len(data)


def _follow(path: Path, position: int, fetch: Callable[[], None]) -> Iterator[str]:
    """Whole lines as they come; a console that begins anew (the machine was started again) is read from its start."""
    from vmctl import interrupt

    decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
    while True:
        fetch()
        size = files.size(path)
        if size < position:
            position, rest = 0, ""
            decoder.reset()
        if size > position:
            with files.open_to_read(path) as stream:
                stream.seek(position)
                data = stream.read()
            position += len(data)
            *lines, rest = (rest + decoder.decode(data)).split("\n")
            yield from lines
        interrupt.sleep(POLL)
