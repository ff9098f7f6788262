"""Run as a program: provisions one machine as vmctl would, so that a test can send it real signals."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from vmctl import interrupt, provision
from vmctl.errors import Interrupted
from vmctl.events import Event, Output


def show(event: Event) -> None:
    """Print what programs print."""
    if isinstance(event, Output):
        print(event.line, flush=True)  # noqa: T201  the test reads it


def main(parts: str) -> int:
    """Provision; the exit status is vmctl's."""
    host_set, target, layout = pickle.loads(Path(parts).read_bytes())  # noqa: S301  the test wrote it
    interrupt.install()
    try:
        provision.run(host_set, [target], layout=layout, report=show)
    except Interrupted as error:
        return 128 + error.signal
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
