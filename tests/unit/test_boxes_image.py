from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.box_images import CLUSTER, MIB, qcow2, raw, write
from vmctl import process
from vmctl.boxes.image import Image, NotAnImage, inspect


def look(tmp_path: Path, data: bytes) -> Image:
    return inspect(write(tmp_path / "image", data), "the image")


def test_formats_and_virtual_sizes(tmp_path: Path) -> None:
    assert look(tmp_path, qcow2(size=3 * MIB)) == Image("qcow2", 3 * MIB)
    assert look(tmp_path, qcow2(version=2)) == Image("qcow2", 64 * MIB)
    assert look(tmp_path, raw(size=5 * MIB)) == Image("raw", 5 * MIB)


def test_qemu_agrees_with_the_images_of_these_tests(tmp_path: Path) -> None:
    path = write(tmp_path / "image", qcow2())
    process.run(["qemu-img", "check", "-q", "-f", "qcow2", path])
    printed = process.run(["qemu-img", "info", "--output=json", path]).stdout
    assert json.loads(printed)["virtual-size"] == look(tmp_path, qcow2()).virtual_size


OPTIONS: tuple[list[str], ...] = (
    [], ["-c"], ["-o", "compat=0.10"], ["-o", "cluster_size=512"], ["-o", "cluster_size=2M"], ["-o", "extended_l2=on"],
    ["-c", "-o", "compression_type=zstd"],
)  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
def test_whatever_qemu_writes_is_taken_and_a_truncated_one_is_not(tmp_path: Path, options: list[str]) -> None:
    source = write(tmp_path / "raw", bytes(range(256)) * 8192 + bytes(4 * MIB))
    target = tmp_path / "image"
    process.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, source, target])
    assert inspect(target, "it") == Image("qcow2", 6 * MIB)
    data = target.read_bytes()
    with pytest.raises(NotAnImage, match="cannot be used") as caught:
        look(tmp_path, data[: len(data) // 3])
    assert "cut off" in caught.value.details


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (qcow2(backing=b"/etc/shadow"), "backing file"),
        (qcow2(features=4), "data in another file"),
        (qcow2(features=2), "corrupt"),
        (qcow2(features=1 << 40), "features that this vmctl does not know"),
        (qcow2(encrypted=1), "encrypted"),
        (qcow2(cluster_bits=40), "header is damaged"),
        (qcow2(size=0), "virtual size is 0"),
        (qcow2(version=7), "version is 7"),
        (qcow2()[: 5 * CLUSTER], "cut off"),
        (qcow2()[:1000], "cut off"),
        (qcow2()[:100], "cut off after 100 bytes"),
        (b"QFI\xfb", "cut off after 4 bytes"),
        (b"  <!DOCTYPE html><html>" + bytes(600), "web page"),
        (b'{"error": "no"}', "JSON"),
        (b"KDMV" + bytes(600), "VMDK"),
        (b"vhdxfile" + bytes(600), "VHDX"),
        (b"<<< Oracle VM VirtualBox Disk Image >>>\n" + bytes(600), "VDI"),
        (b"PK\x03\x04" + bytes(600), "zip"),
        (bytes(4096), "boot sector"),
        (b"", "boot sector"),
        (raw()[:1000], "cut off"),
    ],
)
def test_everything_else_is_refused_and_told_apart(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(NotAnImage, match="the image cannot be used as a box") as caught:
        look(tmp_path, data)
    assert why in caught.value.details
    assert caught.value.hint


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 6 * CLUSTER), st.binary(min_size=1, max_size=16))
def test_no_content_makes_it_crash(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, place: int, noise: bytes
) -> None:
    directory = tmp_path_factory.mktemp("image")
    damaged = bytearray(qcow2())
    damaged[place : place + len(noise)] = noise
    for data in (head, b"QFI\xfb" + head, bytes(damaged)):
        with suppress(NotAnImage):
            assert look(directory, data).virtual_size > 0
