"""The inner half of ``run.py``: furnish fresh namespaces as a host of their own, run a command there.

Runs as root in new mount, network and PID namespaces. Nothing is undone at the end: the namespaces go with
their last process.
"""

from __future__ import annotations

import argparse
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.host import boots, private_dev
from tests.host.commands import must
from tests.host.ordinary_user import GROUP, add_user, as_user
from tests.host.reachable import expose

REPOSITORY = Path(__file__).parents[2]
DAEMON_DEADLINE = 20.0
QEMU_CONF = """\
# Confinement belongs to the real host's profiles, which do not know the private directories.
security_driver = "none"
# The real host's control groups are out of bounds.
cgroup_controllers = []
"""
LIBVIRTD_CONF = f"""\
auth_unix_rw = "none"
unix_sock_group = "{GROUP}"
unix_sock_rw_perms = "0770"
"""


def main() -> int:
    """Furnish, run, and return the command's exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--user", action="store_true")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    os.umask(0o022)
    os.environ.pop("PYTHONPATH", None)  # run.py set it to find this module
    _furnish(arguments.root)
    _start_daemons(arguments.root / "log")
    environment = {"VMCTL_TEST_HOST": str(arguments.root), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = as_user(arguments.command, environment) if arguments.user else arguments.command
    return _run(argv, environment)


def _furnish(root: Path) -> None:
    root.chmod(0o711)  # QEMU runs as a user of its own and must reach the pool
    must("mount", "-t", "tmpfs", "-o", "mode=0755,nosuid,nodev", "tmpfs", "/run")
    for name in ("libvirt", "lock", "user"):
        Path("/run", name).mkdir()
    private_dev.mount(root / "dev")
    must("mount", "-t", "sysfs", "sysfs", "/sys")  # the network devices of this namespace
    _private_directories(root)
    _private_files(root)
    boots.install(root)
    add_user(root)
    expose((REPOSITORY, Path(sys.base_prefix)), root / "reachable")
    for argv in _network():
        must(*argv)


def _private_directories(root: Path) -> None:
    for place in ("etc/libvirt", "var/lib/libvirt", "var/cache/libvirt", "var/log/libvirt"):
        source = root / place
        source.mkdir(parents=True, mode=0o755)
        Path("/", place).mkdir(parents=True, exist_ok=True)
        must("mount", "--bind", str(source), f"/{place}")
    Path("/etc/libvirt/qemu.conf").write_text(QEMU_CONF)
    Path("/etc/libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF)
    Path("/var/lib/libvirt/images").mkdir(mode=0o711)
    (root / "log").mkdir()


def _private_files(root: Path) -> None:
    for name, text in {"resolv.conf": "", "hosts": "127.0.0.1 localhost\n::1 localhost\n"}.items():
        copy = root / name
        copy.write_text(text)
        target = Path("/etc", name).resolve()  # resolv.conf is often a link into /run, which is hidden by now
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        must("mount", "--bind", str(copy), str(target))


def _network() -> Iterator[tuple[str, ...]]:
    yield ("ip", "link", "set", "lo", "up", "multicast", "on")
    yield ("ip", "route", "add", "224.0.0.0/4", "dev", "lo")  # QEMU's mcast sockets (session mode)


def _start_daemons(logs: Path) -> None:
    for name, socket in (("virtlogd", "virtlogd-sock"), ("libvirtd", "libvirt-sock")):
        log = logs / f"{name}.log"
        with log.open("wb") as output:
            daemon = subprocess.Popen([name], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _await_socket(Path("/run/libvirt", socket), daemon, log)


def _await_socket(path: Path, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DAEMON_DEADLINE
    while not (path.exists() and stat.S_ISSOCK(path.stat().st_mode)):
        if daemon.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"test host: {daemon.args!r} did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.02)


def _run(argv: list[str], environment: Mapping[str, str]) -> int:
    child = subprocess.Popen(argv, env={**os.environ, **environment})
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: child.send_signal(got))
    while True:
        try:
            status = child.wait()
        except KeyboardInterrupt:
            continue  # the command got it too, and decides when to end
        return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
