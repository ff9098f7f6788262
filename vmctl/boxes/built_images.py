"""From a root file system to what hypervisors take: a bootable disk, and an image for containers.

The disk is made without loop devices, mounts or root. GPT with three partitions: GRUB's core image for BIOS (14), the
one for UEFI in a small FAT (15), and last, so that it can grow, the root file system (1). Numbers as in Debian's own
cloud images.

The image for Incus and LXD is one tar of ``metadata.yaml`` and ``rootfs/`` ("unified",
https://linuxcontainers.org/incus/docs/main/reference/image_format/). Not compressed: the server unpacks it for each
machine that its storage cannot clone, and would spend most of that time on decompressing.
"""

from __future__ import annotations

import json
import struct
import tarfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vmctl import process
from vmctl.boxes.image import NotAnImage
from vmctl.boxes.recipe import Recipe
from vmctl.boxes.user_namespace import as_root
from vmctl.spec import MIB

NOT_IN_CONTAINERS = (
    "./boot/*",
    "./usr/lib/modules/*",
    "./usr/lib/grub/*",
    "./etc/fstab",
    "./etc/systemd/system/getty.target.wants/serial-getty@*",  # its device never comes, and is waited for
)
"""What a machine without kernel, boot loader, disk and serial port has no use for."""


METADATA, ROOT = "metadata.yaml", "rootfs"
FIRST = 16
"""So many members in, what an image begins with has been seen."""
PROGRAMS = {
    "mke2fs": "e2fsprogs", "sfdisk": "fdisk", "qemu-img": "qemu-utils",
    "mformat": "mtools", "mmd": "mtools", "mcopy": "mtools",
}  # fmt: skip
SECTOR = 512
CORE_START = 1 * MIB
CORE_SIZE = 1 * MIB
ESP_START = 2 * MIB
ESP_SIZE = 2 * MIB
ROOT_START = 4 * MIB
GPT_BACKUP = 1 * MIB
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
FALLBACK = "EFI/BOOT/BOOTX64.EFI"
"""What UEFI starts from a disk that none of its variables names."""
BOOT_TYPE = "21686148-6449-6E6F-744E-656564454649"
ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"  # Linux root (x86-64): what systemd-repart looks for
# Where GRUB's images say which sectors come next (grub/include/grub/i386/pc/boot.h and diskboot.S).
BOOT_CODE_SIZE = 440
BOOT_NEXT = 0x5C
CORE_NEXT = SECTOR - 12


def check_container(path: Path, name: str) -> None:
    """See that a file is an image for containers, as far as it is told at its beginning; the server checks the rest.

    Raises:
        NotAnImage: it is something else.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            names = {
                PurePosixPath(member.name).parts[0] for member in islice(archive, FIRST) if member.name.strip("./")
            }
    except (tarfile.TarError, EOFError) as error:
        raise NotAnImage(name, f"The root file system in it is damaged: {error}.") from error
    if not {METADATA, ROOT} <= names:
        raise NotAnImage(name, f"What is called a root file system in it holds no {METADATA} and {ROOT}/.")


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """One image in the making."""

    recipe: Recipe
    work: Path
    epoch: int

    def make(self, tree: Path, target: Path) -> None:
        """Write the image ``target`` with the root file system ``tree``."""
        (self.work / "metadata.yaml").write_text(json.dumps(self._metadata()), encoding="utf-8")  # JSON is YAML
        exclude = (f"--exclude={pattern}" for pattern in NOT_IN_CONTAINERS)
        process.run(
            as_root(
                process.find("tar"), "--create", "--file", str(target), "--sort=name", "--format=posix",
                "--pax-option=delete=atime,delete=ctime", "--numeric-owner", "--xattrs", "--xattrs-include=*",
                "--transform=s,^\\.,rootfs,rhS", *exclude, f"--mtime=@{self.epoch}",
                "--clamp-mtime", "--directory", str(self.work), "metadata.yaml", "--directory", str(tree), ".",
            )
        )  # fmt: skip

    def _metadata(self) -> dict[str, object]:
        data = self.recipe.data
        return {
            "architecture": str(data["arch"]),
            "creation_date": self.epoch,
            "properties": {"description": str(data["description"]), "name": self.recipe.name},
        }


@dataclass(frozen=True, slots=True)
class DiskImage:
    """One disk in the making."""

    recipe: Recipe
    work: Path
    epoch: int

    def make(self, tree: Path, target: Path) -> None:
        """Write the bootable qcow2 ``target`` with the root file system ``tree``."""
        raw = self.work / "disk.raw"
        with raw.open("wb") as stream:
            stream.truncate(self.recipe.disk)
        self._partition(raw)
        self._fill(raw, tree)
        with raw.open("r+b") as stream:
            grub = tree / "boot/grub/i386-pc"
            install_grub(stream, (grub / "boot.img").read_bytes(), (grub / "core.img").read_bytes())
        self._fill_esp(raw, tree / "boot/grub/x86_64-efi/core.efi")
        process.run([process.find("qemu-img"), "convert", "-f", "raw", "-O", "qcow2", "--", str(raw), str(target)])
        raw.unlink()

    @property
    def _root_size(self) -> int:
        return self.recipe.disk - GPT_BACKUP - ROOT_START

    def _partition(self, raw: Path) -> None:
        rows = [
            _row(1, ROOT_START, self._root_size, f"{ROOT_TYPE}, uuid={self.recipe.id('partition')}, name=root"),
            _row(14, CORE_START, CORE_SIZE, f"{BOOT_TYPE}, uuid={self.recipe.id('bios')}, name=bios"),
            _row(15, ESP_START, ESP_SIZE, f"{ESP_TYPE}, uuid={self.recipe.id('esp')}, name=esp"),
        ]
        script = "\n".join(("label: gpt", f"label-id: {self.recipe.id('disk')}", *rows, ""))
        process.run([process.find("sfdisk"), "--quiet", "--", str(raw)], input=script)

    def _fill_esp(self, raw: Path, loader: Path) -> None:
        """Make the FAT that UEFI looks into, with the loader that it falls back to."""
        fat = ("-i", f"{raw}@@{ESP_START}")
        env = {"SOURCE_DATE_EPOCH": str(self.epoch), "TZ": "UTC"}
        serial = self.recipe.id("esp")[:8]
        sectors, hidden = ESP_SIZE // SECTOR, ESP_START // SECTOR
        geometry = ("-T", str(sectors), "-h", "16", "-s", "32", "-H", str(hidden))
        process.run([process.find("mformat"), *fat, "-N", serial, *geometry, "--", "::"], env=env)
        process.run([process.find("mmd"), *fat, "--", "::EFI", "::EFI/BOOT"], env=env)
        process.run([process.find("mcopy"), *fat, "--", str(loader), f"::{FALLBACK}"], env=env)

    def _fill(self, raw: Path, tree: Path) -> None:
        """Make the root file system in its partition, from the tree."""
        options = f"offset={ROOT_START},hash_seed={self.recipe.id('hash')},lazy_itable_init=1,nodiscard"
        process.run(
            as_root(
                process.find("mke2fs"), "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "1", "-L", "root",
                "-U", self.recipe.id("root"), "-E", options, "-d", str(tree),
                "--", str(raw), f"{self._root_size // 1024}k",
            ),
            env={"E2FSPROGS_FAKE_TIME": str(self.epoch)},
        )  # fmt: skip


def _row(number: int, start: int, size: int, rest: str) -> str:
    """One line for sfdisk; ``start`` and ``size`` in bytes, ``rest`` begins with the type."""
    return f"{number}: start={start // SECTOR}, size={size // SECTOR}, type={rest}"


def install_grub(disk: BinaryIO, boot: bytes, core: bytes) -> None:
    """What grub-bios-setup does, on a file: boot.img into the first sector, core.img into its partition."""
    if len(core) > CORE_SIZE:
        raise ValueError("core.img does not fit")
    first = CORE_START // SECTOR
    boot = _with_sector(boot, BOOT_NEXT, first)
    core = _with_sector(core, CORE_NEXT, first + 1)
    disk.seek(0)
    disk.write(boot[:BOOT_CODE_SIZE])
    disk.seek(CORE_START)
    disk.write(core)


def _with_sector(image: bytes, offset: int, sector: int) -> bytes:
    return image[:offset] + struct.pack("<Q", sector) + image[offset + 8 :]
