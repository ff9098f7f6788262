"""The debug log: which programs were run, how they ended, and tracebacks of what went wrong; for bug reports.

It holds no output of programs, no environment and no `--set` value; it is the user's alone (0600).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vmctl import redaction, terminal
from vmctl.errors import VmctlError

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 1024**2  # bytes; the log before this one is kept as vmctl.log.1
FORMAT = "%(asctime)s %(process)d %(name)s: %(message)s"
LOGGER = "vmctl"


class LogFile(logging.Handler):
    """Appends to a private file, which is opened with the first record; a log that cannot be kept is done without."""

    def __init__(self, path: Callable[[], Path], headline: str) -> None:
        super().__init__()
        self.path = path
        self.headline = headline
        self.setFormatter(logging.Formatter(FORMAT))
        self._descriptor: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record with one call, so that several vmctl do not mix theirs."""
        with contextlib.suppress(OSError, VmctlError):  # VmctlError: nobody knows where the log belongs
            if self._descriptor is None:
                self._descriptor = _opened(self.path())
                self.emit(logging.makeLogRecord({"name": LOGGER, "msg": self.headline}))
            text = terminal.harmless(redaction.text(self.format(record)))  # people read it with cat
            os.write(self._descriptor, (text + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        super().close()


def _opened(path: Path) -> int:
    from vmctl.store import door, files

    if files.size(path) > LONGEST:
        files.rename(path, path.name + ".1")
    return door.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, make=True)


@contextlib.contextmanager
def kept(path: Callable[[], Path], headline: str) -> Iterator[None]:
    """Keep the log for the length of the block; what is logged comes below ``headline``.

    ``path`` is asked with the first record: most runs of ``--help`` and the like log nothing, and need not wait for it.
    """
    logger, handler = logging.getLogger(LOGGER), LogFile(path, headline)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()
