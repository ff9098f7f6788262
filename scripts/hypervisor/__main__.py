"""See that vmctl can use libvirt on this host, and say in plain words what was done.

    scripts/libvirt start     nothing to do where libvirt answers; else starts it
    scripts/libvirt status    what vmctl will use
    scripts/libvirt stop      ends a libvirtd that ``start`` started without an init system

With systemd, libvirt's own units are used. Without an init system (containers, bare machines) a libvirtd is started
under ``tini``, because libvirtd's orphans must be reaped by somebody: root gets the system's, others their own.
"""

from __future__ import annotations

import argparse
import os
import sys

from scripts.hypervisor import daemon, systemd
from scripts.hypervisor.answers import SESSION, SYSTEM, answers


def main() -> int:
    """Run one subcommand; the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/libvirt", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("start", "stop", "status"))
    what = parser.parse_args().what
    return {"start": start, "stop": daemon.stop, "status": status}[what]()


def start() -> int:
    """Make libvirt answer; root and members of the group libvirt use the system's, others their own."""
    if answers(SYSTEM):
        return status()
    if systemd.is_running():
        systemd.start()
    else:
        daemon.start()
    return status()


def status() -> int:
    """Tell which libvirt vmctl will use; 1 when there is none."""
    if answers(SYSTEM):
        print(f"==> libvirt answers at {SYSTEM}")
        return 0
    if os.geteuid() == 0 or not answers(SESSION, autostart=systemd.is_running()):
        print("libvirt does not answer; start it:\n  scripts/libvirt start", file=sys.stderr)
        return 1
    print(f"==> libvirt answers at {SESSION}: machines belong to you alone, folders are shared by rsync")
    if systemd.is_running():
        print("    For the system's libvirt (live folders): sudo adduser $USER libvirt, then log in again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
