"""A plain cloud image: stock Debian with stock cloud-init, on a disk made by other means than vmctl's own recipes.

mmdebstrap and SYSLINUX from a FAT partition, where vmctl's boxes have a GPT and GRUB; no file in it is vmctl's.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.host import cache
from tests.host.debian_tree import MIRROR

SUITE = "bookworm"
PACKAGES = (
    "linux-image-cloud-amd64", "systemd-sysv", "systemd-resolved", "udev", "netplan.io", "cloud-init",
    "cloud-guest-utils", "locales", "e2fsprogs", "openssh-server", "sudo", "netbase",
)  # fmt: skip
OPTIONS = (
    "--variant=important", "--dpkgopt=path-exclude=/usr/share/doc/*", f"--include={','.join(PACKAGES)}",
    # As in Debian's own cloud images: netplan and networkd, without ifupdown, which cloud-init would prefer.
    '--customize-hook=chroot "$1" apt-get -q -y purge ifupdown',
    '--customize-hook=chroot "$1" systemctl enable systemd-networkd.service',
)  # fmt: skip
LABEL = "cloudimg-root"
MIB = 1024**2
BOOT_START, BOOT_SIZE, SIZE = 1 * MIB, 127 * MIB, 2048 * MIB
LAYOUT = f"label: dos\n{BOOT_START // 512},{BOOT_SIZE // 512},c,*\n{(BOOT_START + BOOT_SIZE) // 512},,83\n"
BOOT = f"""DEFAULT linux
LABEL linux
  LINUX vmlinuz
  INITRD initrd.img
  APPEND root=LABEL={LABEL} console=ttyS0,115200
"""
PROGRAMS = {
    "mmdebstrap": "mmdebstrap", "sfdisk": "fdisk", "mke2fs": "e2fsprogs", "mformat": "mtools", "mcopy": "mtools",
    "syslinux": "syslinux", "qemu-img": "qemu-utils",
}  # fmt: skip
BOOT_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")


def image() -> Path:
    """The qcow2 image; made on the first call, which takes a minute."""
    recipe = "\0".join((SUITE, *OPTIONS, LAYOUT, BOOT, "4"))
    return cache.kept(f"plain-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.qcow2", _make)


def _make(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache.directory()) as work:
        _build(Path(work)).rename(path)


def _build(work: Path) -> Path:
    return assembled(work, bootstrapped(work, OPTIONS))


def bootstrapped(work: Path, options: Sequence[str]) -> Path:
    """A tree with Debian in it, made with these options of mmdebstrap."""
    missing = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    if missing:
        raise RuntimeError(f"programs are missing:  sudo apt-get install {' '.join(sorted(missing))}")
    tree = work / "tree"
    _run(
        "unshare", "--mount", "--", "mmdebstrap", *options, SUITE, tree, MIRROR
    )  # its mounts go with it, also when killed
    return tree


def assembled(work: Path, tree: Path) -> Path:
    """A bootable qcow2 with this tree, made in ``work``."""
    disk = work / "disk.raw"
    (tree / "etc/fstab").write_text(f"LABEL={LABEL} / ext4 defaults 0 1\n")
    kernel, initrd = (next((tree / "boot").glob(f"{name}-*")) for name in ("vmlinuz", "initrd.img"))
    with disk.open("wb") as stream:
        stream.truncate(SIZE)
    _run("sfdisk", "--quiet", disk, text=LAYOUT)
    (work / "syslinux.cfg").write_text(BOOT)
    fat = f"{disk}@@{BOOT_START}"
    _run("mformat", "-i", fat, "-F", "-T", BOOT_SIZE // 512, "-h", 64, "-s", 32, "-H", BOOT_START // 512, "::")
    for source, name in ((kernel, "vmlinuz"), (initrd, "initrd.img"), (work / "syslinux.cfg", "syslinux.cfg")):
        _run("mcopy", "-i", fat, source, f"::{name}")
    _run("syslinux", "--install", "--offset", BOOT_START, disk)
    with disk.open("r+b") as stream:
        stream.write(BOOT_CODE.read_bytes()[:440])
    start = BOOT_START + BOOT_SIZE
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-L", LABEL, "-E", f"offset={start}", "-d", tree, disk,
         f"{(SIZE - start) // 1024}k")  # fmt: skip
    made = work / "plain.qcow2"
    _run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", disk, made)
    return made


def _run(*argv: object, text: str | None = None) -> None:
    words = [str(word) for word in argv]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]} failed:\n{done.stdout}{done.stderr}")
