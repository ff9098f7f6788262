"""Run all tests as two halves side by side, each on a private test host of its own.

    python tests/host/halves.py [--PYTEST-OPTION...]

One half is sessions with guests, which leave a processor idle much of the time (two such halves would be no quicker
than one after the other, on two processors); the other half is everything else. The guests' output is shown as it
comes, that of the others when both have ended; a half that failed is shown last, so that the end of it all is pytest's
summary of what went wrong.

Standard library only, as ``run.py``.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).parents[2]
INTEGRATION = Path("tests/integration")
GUESTS = tuple(
    INTEGRATION / f"test_{name}.py"
    for name in (
        "box_build",
        "box_journey",
        "box_plain",
        "fleet_guest",
        "libvirt_driver",
        "provision_guest",
        "remotes_guest",
        "user_flow",
        "virtualbox_journey",
    )
)
"""Those that wait for guests most of their time; the other half is what is not in here."""
PYTEST = ("scripts/in-test-host", "pytest", "-p", "no:cacheprovider")
# Without its cache: where this is sudo, it would belong to root.


def main(options: Sequence[str]) -> int:
    """Run both; the worse of their statuses."""
    missing = [str(path) for path in GUESTS if not (REPOSITORY / path).exists()]
    if missing:
        sys.exit(f"tests/host/halves.py names what is not there: {', '.join(missing)}")
    with tempfile.TemporaryFile() as guests_output, tempfile.TemporaryFile() as others_output:
        others = _start([*options, *(f"--ignore={path}" for path in GUESTS)], others_output)
        guests = _start([*options, *map(str, GUESTS)], subprocess.PIPE)
        _follow(guests, guests_output)
        guests_status, others_status = _ended(guests), _ended(others)
        _show(b"\n==> The other half of the tests, which ran at the same time:\n\n")
        _copy(others_output)
        if guests_status and not others_status:
            _show(b"\n==> The half with guests again, because something failed in it:\n\n")
            _copy(guests_output)
    return guests_status or others_status


def _start(words: Sequence[str], output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*PYTEST, *words], cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)


def _follow(process: subprocess.Popen[bytes], kept: IO[bytes]) -> None:
    """Show what it prints as it comes, and keep it."""
    assert isinstance(process.stdout, io.BufferedReader)
    while True:
        try:
            chunk = process.stdout.read1()
        except KeyboardInterrupt:
            continue  # as below
        if not chunk:
            return
        kept.write(chunk)
        _show(chunk)


def _ended(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C reached pytest as well; it decides when to end


def _show(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _copy(output: IO[bytes]) -> None:
    output.seek(0)
    shutil.copyfileobj(output, sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
