"""The system's libvirtd with its virtlogd, as a pair: starts both, ends both. Runs below tini."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

VIRTLOGD_SOCKET = Path("/run/libvirt/virtlogd-sock")
START_SECONDS = 10.0


def main() -> int:
    """Run until libvirtd ends; its exit status."""
    signal.signal(signal.SIGTERM, _exit)
    if _listens():
        return _run_libvirtd()
    VIRTLOGD_SOCKET.unlink(missing_ok=True)
    virtlogd = subprocess.Popen(["virtlogd"])
    try:
        _await_socket(virtlogd)
        return _run_libvirtd()
    finally:
        _end(virtlogd)


def _listens() -> bool:
    """Whether a virtlogd is there already."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(VIRTLOGD_SOCKET)) == 0


def _run_libvirtd() -> int:
    libvirtd = subprocess.Popen(["libvirtd"])
    try:
        return libvirtd.wait()
    finally:
        _end(libvirtd)


def _exit(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def _await_socket(virtlogd: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _listens():
        if virtlogd.poll() is not None or time.monotonic() > deadline:
            sys.exit("virtlogd did not start")
        time.sleep(0.02)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    child.wait()


if __name__ == "__main__":
    sys.exit(main())
