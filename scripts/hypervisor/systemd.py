"""Start libvirt where systemd manages it."""

from __future__ import annotations

import grp
import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MONOLITHIC = ("virtlogd.socket", "libvirtd.socket")
MODULAR = ("virtlogd.socket", "virtqemud.socket", "virtnetworkd.socket", "virtstoraged.socket", "virtnodedevd.socket")


def is_running() -> bool:
    """Whether systemd manages this host (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def start() -> None:
    """Start and enable libvirt's sockets, unless this user could not use them anyway."""
    if not _may_use_system():
        return
    units = MONOLITHIC if _exists("libvirtd.socket") else MODULAR
    print(f"==> starting libvirt: systemctl enable --now {' '.join(units)}", flush=True)
    subprocess.run([REPOSITORY / "scripts" / "as-root", "systemctl", "enable", "--now", *units], check=True)


def _may_use_system() -> bool:
    names = {entry.gr_name for entry in grp.getgrall() if entry.gr_gid in os.getgroups()}
    return os.geteuid() == 0 or "libvirt" in names


def _exists(unit: str) -> bool:
    found = subprocess.run(["systemctl", "cat", unit], capture_output=True, check=False)
    return found.returncode == 0
