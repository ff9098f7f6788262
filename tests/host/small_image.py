"""The smallest system that a container can run: one program, and an init that waits to be stopped."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

from vmctl.driver import CONTAINER, Disk
from vmctl.spec import MIB

BUSYBOX = Path("/bin/busybox")
INIT = b"""#!/bin/busybox sh
trap 'exit 0' PWR TERM INT
while :; do /bin/busybox sleep 3600 & wait; done
"""
DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "var", "var/lib")


def make(directory: Path) -> Disk:
    """An image for Incus and LXD in ``directory``."""
    assert shutil.which("busybox"), "a program is missing:  sudo apt-get install busybox-static"
    path = directory / f"small.{CONTAINER}"
    files = {
        "metadata.yaml": json.dumps({"architecture": "x86_64", "creation_date": 1}).encode(),
        "rootfs/bin/busybox": BUSYBOX.read_bytes(),
        "rootfs/sbin/init": INIT,
    }
    with tarfile.open(path, "w") as archive:
        for name in ("", *(f"/{each}" for each in DIRECTORIES)):
            member = tarfile.TarInfo(f"rootfs{name}")
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Disk(path=path, format=CONTAINER, digest=digest, virtual_size=64 * MIB)
