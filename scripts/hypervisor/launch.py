"""Start libvirtd under tini, and print the process id of tini, which ends the daemon when it gets SIGTERM.

With ``--namespace`` it runs as root in a new mount namespace, which it furnishes first: libvirtd sees no /dev/kvm
that does not work, and (root's) a qemu.conf that leaves control groups alone, for nobody delegated any to it.
"""

from __future__ import annotations

import argparse
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.host import private_dev
from tests.host.commands import must

SBIN = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
QEMU_CONF = Path("/etc/libvirt/qemu.conf")
NO_CGROUPS = "\ncgroup_controllers = []\n"
SUPERVISOR = [sys.executable, "-B", "-m", "scripts.hypervisor.supervise"]


def main() -> None:
    """Furnish the namespace, start the daemon, print its process id."""
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--namespace", action="store_true")
    parser.add_argument("--uid", type=int, default=os.geteuid())
    parser.add_argument("--env", action="append", default=[])
    arguments = parser.parse_args()
    if arguments.namespace:
        _furnish(system=arguments.uid == 0)
    variables = dict(pair.split("=", 1) for pair in arguments.env)
    print(_start(arguments.uid, arguments.log, variables))


def _furnish(*, system: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="vmctl-libvirtd-") as scratch:
        if private_dev.kvm_lies():
            private_dev.mount(Path(scratch, "dev"))
        if system:
            _cover_qemu_conf(Path(scratch, "qemu.conf"))


def _cover_qemu_conf(copy: Path) -> None:
    text = QEMU_CONF.read_text(encoding="utf-8")
    if not any(line.startswith("cgroup_controllers") for line in text.splitlines()):
        copy.write_text(text + NO_CGROUPS, encoding="utf-8")
        copy.chmod(0o600)
        must("mount", "--bind", str(copy), str(QEMU_CONF))


def _start(uid: int, log: Path, variables: dict[str, str]) -> int:
    # The user's own libvirtd starts and ends its virtlogd itself.
    daemon = SUPERVISOR if uid == 0 else ["libvirtd"]
    user = pwd.getpwuid(uid)
    drops = uid != os.geteuid()
    with log.open("ab") as output:
        child = subprocess.Popen(
            ["tini", "-s", "--", *daemon],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **variables, "PATH": SBIN},
            start_new_session=True,
            user=uid if drops else None,
            group=user.pw_gid if drops else None,
            extra_groups=os.getgrouplist(user.pw_name, user.pw_gid) if drops else None,
        )
    return child.pid


if __name__ == "__main__":
    main()
