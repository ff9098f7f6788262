"""From a root file system to a bootable disk, without loop devices, mounts or root.

GPT with three partitions: GRUB's core image for BIOS (14), the one for UEFI in a small FAT (15), and last, so that it
can grow, the root file system (1). Numbers as in Debian's own cloud images.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vmctl import process
from vmctl.boxes.recipe import Recipe
from vmctl.boxes.user_namespace import as_root
from vmctl.spec import MIB

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
