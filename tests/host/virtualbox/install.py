"""A VirtualBox of a test's own: a ``VBoxManage`` for PATH, whose machines and settings nobody else sees.

The program runs in a mount namespace in which only /usr is another one, so every path that it is given means the
same file inside and outside.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.host import debian_tree
from tests.host.virtualbox import chroot

REPOSITORY = Path(__file__).parents[3]
REAL = "VBoxManage.real"
GRACE = 5.0
PLAIN = ("getextradata", "setextradata", "createvm", "createmedium", "modifymedium", "closemedium", "showmediuminfo")
"""Commands that are the same whether a machine runs or not."""
PARENT = Path("/var/tmp")
"""Guests' disks do not fit into a RAM-backed /tmp; and paths of sockets must be short."""


@dataclass(frozen=True)
class Installation:
    """One VirtualBox: its settings under ``root``, its server known by ``socket``."""

    root: Path
    tree: Path

    @property
    def bin(self) -> Path:
        """The directory for PATH."""
        return self.root / "bin"

    @property
    def run(self) -> Path:
        """Where the front keeps what it knows of running machines."""
        return self.root / "run"

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that VirtualBox's programs need to find this installation."""
        return {
            "VBOX_USER_HOME": str(self.root / "settings"),
            "VBOX_IPC_SOCKETID": f"vmctl-test-{self.root.stat().st_ino}",
        }

    def enter(self, *argv: str) -> list[str]:
        """``argv`` as a command that runs inside."""
        return debian_tree.entered(self.tree, *argv)

    def stop(self) -> None:
        """End the server and whatever else of this installation still runs."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._processes():
                os.kill(pid, number)
            deadline = time.monotonic() + GRACE
            while any(self._processes()) and time.monotonic() < deadline:
                time.sleep(0.05)
        shutil.rmtree(f"/tmp/.vbox-{self.environment['VBOX_IPC_SOCKETID']}-ipc", ignore_errors=True)

    def _processes(self) -> Iterator[int]:
        """Processes that were started with this installation's environment."""
        mark = f"VBOX_IPC_SOCKETID={self.environment['VBOX_IPC_SOCKETID']}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        yield int(entry.name)
                except OSError:
                    continue  # it ended just now


@contextmanager
def installed(*, front: bool) -> Iterator[Installation]:
    """A fresh installation, first on PATH for the length of the block: the real VBoxManage, or the front."""
    root = Path(tempfile.mkdtemp(prefix="vbox-", dir=PARENT))
    made = install(root, front=front)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{made.bin}:{path}"
    try:
        yield made
    finally:
        os.environ["PATH"] = path
        made.stop()
        shutil.rmtree(root, ignore_errors=True)


def install(root: Path, *, front: bool) -> Installation:
    """Make a fresh installation below ``root``."""
    made = Installation(root, chroot.tree())
    for directory in (made.bin, made.run, root / "settings"):
        directory.mkdir(parents=True)
    real = made.bin / (REAL if front else "VBoxManage")
    _write_program(real, _real(made))
    if front:
        _write_program(made.bin / "VBoxManage", _front(made, real))
    return made


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _real(made: Installation) -> str:
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in made.environment.items())
    preload = f"LD_PRELOAD=/usr/lib/{chroot.LIBRARY}"
    command = shlex.join(made.enter("/usr/bin/env", preload, "/usr/lib/virtualbox/VBoxManage"))
    return f'#!/bin/sh\n{exports}exec {command} "$@"\n'


def _front(made: Installation, real: Path) -> str:
    """The front begins as a shell script: Python takes longer to start than VBoxManage to answer."""
    program = made.bin / "front.py"
    _write_program(program, _front_program(made, real))
    real_one, run = shlex.quote(str(real)), shlex.quote(str(made.run))
    return f"""#!/bin/sh
case "${{1-}} ${{2-}}" in
  startvm*) ;;
  {"|".join(f"{word}*" for word in PLAIN)}) exec {real_one} "$@" ;;
  *" "????????-????-????-????-????????????) [ -e {run}/"$2" ] || exec {real_one} "$@" ;;
  *) [ -n "$(ls -A {run})" ] || exec {real_one} "$@" ;;
esac
exec {shlex.quote(str(program))} "$@"
"""


def _front_program(made: Installation, real: Path) -> str:
    return f"""#!{sys.executable} -I
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from tests.host.virtualbox.front import Front
front = Front(
    real=Path({str(real)!r}),
    run=Path({str(made.run)!r}),
    tree=Path({str(made.tree)!r}),
    environment={dict(made.environment)!r},
)
sys.exit(front.main(sys.argv[1:]))
"""
