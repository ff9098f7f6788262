from __future__ import annotations

import io
import shutil
import struct
import tarfile
from pathlib import Path

import pytest

from vmctl import process
from vmctl.boxes import box_build, built_images, recipe
from vmctl.boxes.recipe import Recipe
from vmctl.errors import VmctlError
from vmctl.layout import HomeLayout
from vmctl.process import ProgramMissing
from vmctl.spec import GIB, MIB


@pytest.fixture
def debian() -> Recipe:
    return recipe.load("debian-12")


def test_the_recipes_that_ship(debian: Recipe) -> None:
    assert recipe.names() == ["debian-12"]
    assert (debian.name, debian.disk) == ("debian-12", 10 * GIB)
    with pytest.raises(VmctlError, match="there is no recipe for a box 'debian-99'"):
        recipe.load("debian-99")


def test_any_change_of_any_file_changes_the_digest(debian: Recipe, tmp_path: Path) -> None:
    copy = tmp_path / "debian-12"
    shutil.copytree(debian.directory, copy)
    assert Recipe(copy, debian.data).digest == debian.digest
    (copy / "README.md").write_text("changed\n")  # nothing of it is in the box
    assert Recipe(copy, debian.data).digest == debian.digest
    (copy / "root/etc/fstab").write_text("# changed\n")
    changed = Recipe(copy, debian.data)
    assert changed.digest != debian.digest
    assert changed.id("root") != debian.id("root")


def test_the_overlay_is_filled_in_owned_by_root_and_always_the_same(debian: Recipe) -> None:
    assert debian.overlay(5) == debian.overlay(5)
    with tarfile.open(fileobj=io.BytesIO(debian.overlay(5))) as archive:
        members = {member.name: member for member in archive}
        texts = {name: archive.extractfile(member).read().decode() for name, member in members.items()}  # type: ignore[union-attr]  # all are files
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 5)}
    assert members["./customize.sh"].mode == 0o755
    assert members["./etc/fstab"].mode == 0o644
    assert f"UUID={debian.id('root')} / ext4" in texts["./etc/fstab"]
    assert not [name for name, text in texts.items() if "@ROOT_UUID@" in text or "@CMDLINE@" in text]


def test_grub_finds_itself(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xee" * 4 * MIB)
    with disk.open("r+b") as stream:
        built_images.install_grub(stream, bytes(512), bytes(2000))
    data = disk.read_bytes()
    first = built_images.CORE_START // 512
    assert struct.unpack_from("<Q", data, 0x5C) == (first,)
    assert struct.unpack_from("<Q", data, built_images.CORE_START + 0x1F4) == (first + 1,)
    assert data[440:512] == b"\xee" * 72  # the partition table stays


def test_uefi_finds_its_loader_in_a_fat_of_its_own(debian: Recipe, tmp_path: Path) -> None:
    raw, loader = tmp_path / "disk", tmp_path / "loader"
    raw.write_bytes(b"\xee" * 5 * MIB)
    loader.write_bytes(b"MZ" * 100_000)
    built_images.DiskImage(debian, tmp_path, epoch=1_700_000_000)._fill_esp(raw, loader)
    data = raw.read_bytes()
    start, end = built_images.ESP_START, built_images.ESP_START + built_images.ESP_SIZE
    assert set(data[:start] + data[end:]) == {0xEE}  # nothing beside the partition was written
    fat = f"{raw}@@{start}"
    process.run([process.find("mcopy"), "-i", fat, f"::{built_images.FALLBACK}", tmp_path / "back"])
    assert (tmp_path / "back").read_bytes() == loader.read_bytes()
    built_images.DiskImage(debian, tmp_path, epoch=1_700_000_000)._fill_esp(raw, loader)
    assert raw.read_bytes() == data


def test_all_missing_programs_are_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = process.find

    def without(program: str, *, package: str = "") -> str:
        if program in ("mmdebstrap", "sfdisk", "qemu-img"):
            raise ProgramMissing(program)
        return find(program, package=package)

    monkeypatch.setattr(process, "find", without)
    with pytest.raises(ProgramMissing, match="mmdebstrap, qemu-img, sfdisk") as caught:
        box_build.build("debian-12", HomeLayout(tmp_path))
    assert caught.value.hint == "sudo apt-get install fdisk mmdebstrap qemu-utils"


def test_a_version_that_the_recipe_does_not_make_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(VmctlError, match="does not satisfy the constraint"):
        box_build.build("debian-12", HomeLayout(tmp_path), constraint=">99")
