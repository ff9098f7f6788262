"""Boxes that are a root file system alone: what `package` makes of a container."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.unit.box_archives import tarred
from vmctl.boxes import packing
from vmctl.boxes.adding import add
from vmctl.boxes.box import Box
from vmctl.boxes.image import NotAnImage
from vmctl.boxes.packing import Contents
from vmctl.boxes.publishing import publish
from vmctl.boxes.request import Request
from vmctl.boxes.vagrant_box import BadBox
from vmctl.driver import CONTAINER
from vmctl.errors import UsageError
from vmctl.layout import HomeLayout
from vmctl.spec import GIB

SAID = {"provider": "incus", "format": CONTAINER, "virtual_size": 7, "vmctl": {"seeding": "vmctl"}}


def root_file_system(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


GOOD = root_file_system("metadata.yaml", "rootfs", "rootfs/etc")


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "vmctl")


def packed(tmp_path: Path, stated: Any, image: bytes = GOOD) -> Path:
    path = tmp_path / "web.box"
    path.write_bytes(tarred({"metadata.json": json.dumps(stated).encode(), "rootfs.container": image}))
    return path


def added(tmp_path: Path, home: HomeLayout) -> Box:
    return add(Request(address=str(packed(tmp_path, SAID))), home)[0]


def test_it_is_added_as_what_it_is(tmp_path: Path, home: HomeLayout) -> None:
    box = added(tmp_path, home)
    assert (box.format, box.virtual_size, box.seeding) == (CONTAINER, 7 * GIB, "vmctl")
    assert box.path.read_bytes() == GOOD
    assert box.has_form([CONTAINER])
    assert not box.has_form(["qcow2", "raw"])
    assert box.disk([CONTAINER]).digest == box.digest


@pytest.mark.parametrize("size", [None, "7", 0, -1, 10**9])
def test_a_size_that_makes_no_sense_is_no_size(tmp_path: Path, home: HomeLayout, size: Any) -> None:
    box, _ = add(Request(address=str(packed(tmp_path, {**SAID, "virtual_size": size}))), home)
    assert box.virtual_size == 10 * GIB


@pytest.mark.parametrize(
    "image",
    [b"", b"QFI\xfb" + bytes(600), GOOD[:700], root_file_system("rootfs"), root_file_system("metadata.yaml", "x")],
)
def test_what_is_no_root_file_system_is_refused(tmp_path: Path, home: HomeLayout, image: bytes) -> None:
    with pytest.raises(NotAnImage):
        add(Request(address=str(packed(tmp_path, SAID, image))), home)


def test_another_format_is_refused(tmp_path: Path, home: HomeLayout) -> None:
    with pytest.raises(BadBox, match="not a box"):
        add(Request(address=str(packed(tmp_path, {**SAID, "format": "qcow2"}))), home)


def test_it_is_packed_again_as_it_was(tmp_path: Path, home: HomeLayout) -> None:
    box, target = added(tmp_path, home), tmp_path / "again.box"
    packing.repackage(box, target)
    again, new = add(Request(address=str(target), name="again"), home)
    assert new
    assert (again.digest, again.virtual_size, again.seeding) == (box.digest, box.virtual_size, box.seeding)


def test_only_whole_gib_are_told(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    contents = Contents(disks=(path,), arch="x86_64", user="vmctl", form=CONTAINER, size=GIB + 1)
    assert packing.metadata(contents)["virtual_size"] == 2


def test_catalogues_do_not_take_it(tmp_path: Path, home: HomeLayout) -> None:
    with pytest.raises(UsageError, match="for containers alone"):
        publish(added(tmp_path, home), tmp_path / "there")
    assert not (tmp_path / "there").exists()
