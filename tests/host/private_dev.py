"""A private /dev with every node of the real one, except a /dev/kvm that does not work."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.host.commands import must

DEV = Path("/dev")
BIND = ("pts", "shm", "mqueue", "hugepages")
FOR_EVERYBODY = {"fuse": 0o666, "net/tun": 0o666}
"""What udev gives everybody; machines without udev leave these to root alone."""
LOOPS = 64
"""Loop devices that have a node from the start; the kernel makes further ones in the real /dev alone."""
LOOP_MAJOR = 7


def mount(staging: Path) -> None:
    """Replace /dev (in this mount namespace) by a tmpfs that holds the same nodes."""
    staging.mkdir()
    must("mount", "-t", "tmpfs", "-o", "mode=0755,nosuid", "tmpfs", str(staging))
    hide = () if kvm_works() else ("kvm",)
    _copy(DEV, staging, hide)
    _add_loops(staging)
    for name in BIND:
        if (DEV / name).is_dir():
            (staging / name).mkdir(exist_ok=True)
            must("mount", "--rbind", str(DEV / name), str(staging / name))
    for name, mode in FOR_EVERYBODY.items():
        if (staging / name).exists():
            (staging / name).chmod(mode)
    if DEV.is_mount():  # gone, not just hidden: libvirt walks the list of mounts and would trip over the old ones
        must("umount", "--recursive", "--lazy", str(DEV))
    must("mount", "--move", str(staging), str(DEV))


def kvm_works() -> bool:
    """Whether this CPU has what /dev/kvm promises; a device node alone says nothing."""
    words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    return "vmx" in words or "svm" in words or os.uname().machine != "x86_64"


def kvm_lies() -> bool:
    """Whether there is a /dev/kvm that does not really work."""
    return (DEV / "kvm").exists() and not kvm_works()


def _add_loops(target: Path) -> None:
    for number in range(LOOPS):
        node = target / f"loop{number}"
        if not node.exists():
            os.mknod(node, stat.S_IFBLK | 0o660, os.makedev(LOOP_MAJOR, number))


def _copy(source: Path, target: Path, hide: tuple[str, ...]) -> None:
    for entry in source.iterdir():
        if entry.name in (*BIND, *hide):
            continue
        status = entry.lstat()
        copy = target / entry.name
        if stat.S_ISLNK(status.st_mode):
            copy.symlink_to(entry.readlink())
        elif stat.S_ISDIR(status.st_mode):
            copy.mkdir(mode=stat.S_IMODE(status.st_mode))
            _copy(entry, copy, ())
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            os.mknod(copy, status.st_mode, status.st_rdev)
            os.chown(copy, status.st_uid, status.st_gid)
            copy.chmod(stat.S_IMODE(status.st_mode))
