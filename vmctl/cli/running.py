"""Where every command ends: errors are told once, and become the exit codes of docs/commands.md; and the debug log."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vmctl import __version__, interrupt, redaction, terminal
from vmctl.errors import Interrupted, UsageError, VmctlError, from_os, shell_command

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

LONGEST_LOG = 1024**2  # bytes; the log before this one is kept as vmctl.log.1
LOG_FORMAT = "%(asctime)s %(process)d %(name)s: %(message)s"
LOGGER_NAME = "vmctl"


def run(cli: click.Command, argv: Sequence[str]) -> int:
    """Run the command line and return the exit code (docs/commands.md); prints every error exactly once."""
    interrupt.install()
    redaction.learn(argv)
    _have_streams()
    command_name = next((word for word in argv if word.isalpha()), "")
    with debug_log(_log_path, f"vmctl {__version__} {command_name}"):
        try:
            outcome = cli.main(list(argv), prog_name="vmctl", standalone_mode=False)
            return outcome if isinstance(outcome, int) else 0
        except click.exceptions.Exit as exit_:
            return exit_.exit_code
        except click.exceptions.NoArgsIsHelpError as error:
            error.show(sys.stderr)
            return error.exit_code
        except (BrokenPipeError, SystemExit) as error:
            return _without_reader(error)
        except Exception as error:  # noqa: BLE001  the one place where everything ends
            return _end(error, argv)
        except KeyboardInterrupt as error:
            return _end(error, argv)


def _have_streams() -> None:
    """Have standard streams that take everything: closed ones lead nowhere, strange characters are escaped."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # and the next file that is opened would get its number
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.dup2(descriptor, number)
            if descriptor != number:
                os.close(descriptor)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _log_path() -> Path:
    from vmctl.layout import HomeLayout, home

    return HomeLayout(home()).log


def _end(error: BaseException, argv: Sequence[str]) -> int:
    """Tell why the command failed, and keep the traceback in the log."""
    from vmctl.console import Console, exit_code

    console = Console(json="--json" in itertools.takewhile(lambda word: word != "--", argv))
    known = _meant(error, argv)
    if known is not error:
        logger.debug("failed", exc_info=error)
    elif not isinstance(known, UsageError | Interrupted):
        logger.debug("%s", known.brief, exc_info=known)
    try:
        console.error(known)
    except BrokenPipeError:
        _drop_stdout()
    return exit_code(known)


def _meant(error: BaseException, argv: Sequence[str]) -> VmctlError:
    """The error for the user; what nobody foresaw is a fault of vmctl's, and names the log with the traceback."""
    match error:
        case VmctlError():
            return error
        case click.Abort() | KeyboardInterrupt():
            return Interrupted(signal.SIGINT)
        case click.ClickException():
            from vmctl.cli import misuse

            return misuse.explain(error, argv)
        case OSError():
            return from_os(error)
    brief = f"internal error (a bug in vmctl): {type(error).__name__}: {error}"
    try:
        kept = _log_path()
    except (VmctlError, OSError) as unknown:  # what has failed may be the very question where the log belongs
        return VmctlError(brief, details=f"There is no log of it: {unknown}.", hint="export VMCTL_HOME=DIRECTORY")
    details = f"The traceback is in {kept}; please report it."
    return VmctlError(brief, details=details, hint=shell_command("tail", "-n", "50", kept))


def _without_reader(error: BaseException) -> int:
    """The status of a program that writes to nobody; click makes an exit with 1 of that, and marks the streams."""
    if not isinstance(error, BrokenPipeError) and not type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
        raise error
    _drop_stdout()
    return 128 + signal.SIGPIPE


def _drop_stdout() -> None:
    """Let Python's exit flush go nowhere: the reader of our output is gone (``vmctl list | head -1``)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class LogFile(logging.Handler):
    """Appends to a private file, which is opened with the first record; a log that cannot be kept is done without."""

    def __init__(self, path: Callable[[], Path], headline: str) -> None:
        super().__init__()
        self.path = path
        self.headline = headline
        self.setFormatter(logging.Formatter(LOG_FORMAT))
        self._descriptor: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record with one call, so that several vmctl do not mix theirs."""
        with contextlib.suppress(OSError, VmctlError):  # VmctlError: nobody knows where the log belongs
            if self._descriptor is None:
                self._descriptor = _opened_log(self.path())
                self.emit(logging.makeLogRecord({"name": LOGGER_NAME, "msg": self.headline}))
            text = terminal.harmless(redaction.text(self.format(record)))  # people read it with cat
            os.write(self._descriptor, (text + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        super().close()


def _opened_log(path: Path) -> int:
    from vmctl.store import door, files

    if files.size(path) > LONGEST_LOG:
        files.rename(path, path.name + ".1")
    return door.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, make=True)


@contextlib.contextmanager
def debug_log(path: Callable[[], Path], headline: str) -> Iterator[None]:
    """Keep the log for the length of the block; what is logged comes below ``headline``.

    It is for bug reports: which programs were run, how they ended, and tracebacks of what went wrong; no output of
    programs, no environment and no `--set` value. It is the user's alone (0600).

    ``path`` is asked with the first record: most runs of ``--help`` and the like log nothing, and need not wait for it.
    """
    everything, handler = logging.getLogger(LOGGER_NAME), LogFile(path, headline)
    before = everything.level
    everything.addHandler(handler)
    everything.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        everything.removeHandler(handler)
        everything.setLevel(before)
        handler.close()
