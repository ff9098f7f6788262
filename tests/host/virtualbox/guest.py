"""Runs one machine: shows its disks through VirtualBox's own code, runs QEMU on them, puts everything away after it.

Started by the front in a mount namespace of its own, with a directory that holds ``plan.json``. As long as it lives
it holds ``lock`` there; when the guest is off it leaves ``ended.json``.

VirtualBox's vboximg-mount shows a chain of differencing media as one raw file and writes to the chain's last medium,
as a running VirtualBox would; meanwhile it holds VirtualBox's own locks on them.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LETTING_GO = 10.0
VIEW = "vhdd"


def main(run: Path) -> int:
    """Run the machine to its end."""
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        plan = json.loads((run / "plan.json").read_text())
        status = 1
        try:
            for uuid, place in plan["disks"].items():
                _show(uuid, Path(place), plan["inside"])
            status = subprocess.run(plan["argv"], stdin=subprocess.DEVNULL, check=False).returncode
        finally:
            for place in plan["disks"].values():
                _put_away(Path(place))
            ended: dict[str, Any] = {"status": status, "since": time.time()}
            (run / "ended.json").write_text(json.dumps(ended))
        return status


def _show(uuid: str, place: Path, inside: list[str]) -> None:
    """Mount a disk at ``place``: the mount is made where /usr is VirtualBox's, and seen here, where it is QEMU's."""
    place.mkdir(exist_ok=True)
    _mount("--bind", str(place), str(place))
    _mount("--make-shared", str(place))
    image = ["/usr/lib/virtualbox/vboximg-mount", "--rw", "-o", "uid=0,gid=0,big_writes", "-i", uuid, str(place)]
    subprocess.run([*inside, *image], stdin=subprocess.DEVNULL, check=True)
    if not (place / VIEW).exists():
        raise RuntimeError(f"vboximg-mount does not show {uuid}")


def _mount(*words: str) -> None:
    subprocess.run([shutil.which("mount") or "mount", *words], check=True)


def _put_away(place: Path) -> None:
    """Unmount (the kernel writes out what it holds), end vboximg-mount (it closes the media), and wait for that."""
    umount = shutil.which("umount") or "umount"
    for _ in range(2):  # the disk's view, and the directory's own mount
        subprocess.run([umount, place], check=False)
    for pid in _showing(place):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + LETTING_GO
    while any(_showing(place)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _showing(place: Path) -> Iterator[int]:
    """Each vboximg-mount for ``place`` that still lives, and with it VirtualBox's locks."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"vboximg-mount") and str(place).encode() in words:
            yield int(entry.parent.name)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
