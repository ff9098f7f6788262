"""Run a command inside vmctl's private test host.

    sudo python tests/host/run.py -- .venv/bin/pytest
    sudo python tests/host/run.py --user -- .venv/bin/pytest tests/integration/test_session.py

The test host is a set of kernel namespaces, not a machine: its own network (loopback only, so guest traffic
never leaves it), its own /dev, /run, /etc/libvirt and /var/lib/libvirt, its own libvirtd and virtlogd under
``tini``, and an ordinary user ``vmctl-test`` for session mode. A libvirtd of the real host never notices. When
the command ends, the kernel ends every process of the namespace, and the directory with its files is removed.

Standard library only: it must run before anything is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).parents[2]
PREFIX = "vmctl-test-host-"
PARENT = Path("/var/tmp")  # guests' disks do not fit into a RAM-backed /tmp
PROGRAMS = {
    "ip": "iproute2",
    "libvirtd": "libvirt-daemon-system",
    "mount": "mount",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "tini": "tini",
    "unshare": "util-linux",
    "virtlogd": "libvirt-daemon-system",
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main() -> int:
    """Make the namespaces, run the command in them, remove what is left; the command's exit status."""
    arguments = _parse()
    if os.geteuid() != 0:
        sys.exit(f"The test host makes namespaces, so it needs root:\n  sudo {sys.executable} {' '.join(sys.argv)}")
    _require_programs()
    root, lock = _directory()
    try:
        with lock:
            return _run(root, arguments)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--user", action="store_true", help="run the command as the ordinary user vmctl-test")
    parser.add_argument("command", nargs="+", help="the command and its arguments, after --")
    return parser.parse_args()


def _require_programs() -> None:
    missing = {package for program, package in PROGRAMS.items() if not shutil.which(program, path=SYSTEM_PATH)}
    if missing:
        sys.exit(f"The test host lacks programs; install them:\n  sudo apt-get install {' '.join(sorted(missing))}")


def _directory() -> tuple[Path, IO[str]]:
    """The test host's directory and its lock; one that another run has made but not locked yet is never seen."""
    with (PARENT / f"{PREFIX}making").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        _remove_stale()
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PARENT))
        return root, _hold(root)


def _remove_stale() -> None:
    """Remove directories of test hosts that were killed: those whose lock nobody holds."""
    for root in PARENT.glob(f"{PREFIX}*"):
        try:
            with _hold(root, wait=False):
                shutil.rmtree(root, ignore_errors=True)
        except OSError:
            continue  # alive, or not ours


def _hold(root: Path, *, wait: bool = True) -> IO[str]:
    lock = (root / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        lock.close()
        raise
    return lock


def _run(root: Path, arguments: argparse.Namespace) -> int:
    inside = [sys.executable, "-B", "-m", "tests.host.inside", str(root)]
    if arguments.user:
        inside.append("--user")
    # --kill-child: should this process die, PID 1 of the namespace goes too, and with it all that runs there.
    unshare = ["unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
    argv = [*unshare, "--", "tini", "-s", "--", *inside, "--", *arguments.command]
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    child = subprocess.Popen(argv, env={**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)})
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C reached the command as well; it decides when to end


if __name__ == "__main__":
    sys.exit(main())
