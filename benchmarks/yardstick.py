"""The fixed yardstick: plain QEMU until SSH answers, on a stock Debian 12 without cloud-init.

Neither vmctl nor its box takes part, so a ratio to it also tells what the box costs. The image is made once and kept
beside the tests' parts: Debian's packages as they come, started by SYSLINUX, with a user, a key and DHCP.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.plain_qemu import await_ssh
from tests.host import cache, plain_image
from vmctl.boxes.box import published_key, published_line

HOST = "yardstick"
CPUS, MEMORY = 2, 1024
"""As a machine has that says nothing of either; MiB."""
PACKAGES = (
    "linux-image-cloud-amd64", "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "netbase", "procps",
    "openssh-server", "sudo", "python3", "rsync", "ca-certificates",
)  # fmt: skip
SETTLE = f"""set -eu
useradd --create-home --shell /bin/bash vagrant
echo "vagrant ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/vagrant
install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh
echo "{published_line()}" >/home/vagrant/.ssh/authorized_keys
chown vagrant: /home/vagrant/.ssh/authorized_keys
echo yardstick >/etc/hostname
echo "127.0.0.1 localhost yardstick" >/etc/hosts
: >/etc/resolv.conf
: >/etc/machine-id
printf "[Match]\\nName=e*\\n[Network]\\nDHCP=ipv4\\n" >/etc/systemd/network/10-dhcp.network
systemctl enable systemd-networkd
systemctl mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
"""
OPTIONS = ("--variant=minbase", f"--include={','.join(PACKAGES)}", f"--customize-hook=chroot \"$1\" sh -c '{SETTLE}'")


def image() -> Path:
    """The qcow2 image; made on the first call, which takes some minutes."""
    recipe = "\0".join((plain_image.SUITE, *OPTIONS, plain_image.LAYOUT, plain_image.BOOT, "1"))
    return cache.kept(f"yardstick-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.qcow2", _make)


def _make(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache.directory()) as work:
        tree = plain_image.bootstrapped(Path(work), OPTIONS)
        plain_image.assembled(Path(work), tree).rename(path)


def boot(place: Path) -> None:
    """Boot a fresh overlay of the image, until an SSH command has run in it."""
    port = _free_port()
    config = _ssh_config(place, port)
    with _running(place, port):
        await_ssh(config, HOST)


@contextmanager
def _running(place: Path, port: int) -> Iterator[None]:
    disk = place / "yardstick.qcow2"
    disk.unlink(missing_ok=True)
    create = [_found("qemu-img"), "create", "-q", "-f", "qcow2", "-F", "qcow2"]
    subprocess.run([*create, "-b", str(image()), str(disk)], check=True)
    with (place / "yardstick.log").open("wb") as log:
        child = subprocess.Popen(_argv(place, disk, port), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        child.kill()
        child.wait()


def _argv(place: Path, disk: Path, port: int) -> list[str]:
    kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return [
        _found("qemu-system-x86_64"), "-machine", "q35",
        "-accel", "kvm" if kvm else "tcg,thread=multi", "-cpu", "host" if kvm else "max",
        "-smp", str(CPUS), "-m", str(MEMORY), "-display", "none", "-vga", "none",
        "-serial", f"file:{place}/yardstick-console",
        "-drive", f"if=virtio,file={disk},format=qcow2",
        "-netdev", f"user,id=nic1,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=nic1", "-device", "virtio-rng-pci",
    ]  # fmt: skip


def _found(program: str) -> str:
    return shutil.which(program) or program


def _ssh_config(place: Path, port: int) -> Path:
    key = place / "yardstick-key"
    key.unlink(missing_ok=True)
    key.touch(mode=0o600)
    key.write_bytes(published_key())
    settings = {
        "HostName": "127.0.0.1", "Port": port, "User": "vagrant", "IdentityFile": key, "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "GlobalKnownHostsFile": "/dev/null",
    }  # fmt: skip
    config = place / "yardstick-ssh"
    config.write_text("".join((f"Host {HOST}\n", *(f"  {name} {value}\n" for name, value in settings.items()))))
    return config


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
