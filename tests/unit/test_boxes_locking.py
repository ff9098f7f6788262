"""``Vmfile.lock`` covers all that makes a box."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs

from tests.unit.box_archives import tarred
from tests.unit.box_images import qcow2, write
from vmctl.boxes import find, locking, obtaining
from vmctl.boxes.adding import add
from vmctl.boxes.box import Box
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.request import Order, Request
from vmctl.errors import UsageError, VmctlError
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef, MachineSpec, Project
from vmctl.store.records import BoxUsed

REF = BoxRef(address="two")
METADATA = b'{"provider": "libvirt", "disks": [{"path": "a"}, {"path": "b"}]}'


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "home")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    machine = MachineSpec(name="web", box=REF)
    return Project(root=tmp_path, file=tmp_path / "Vmfile", machines=(machine,))


def two_disks(path: Path, second: bytes, *, stated: bytes = b"") -> Path:
    members = {"metadata.json": METADATA, "a": qcow2(), "b": qcow2(payload=second), "Vagrantfile": stated}
    return write(path, tarred({name: data for name, data in members.items() if data}))


def put(home: HomeLayout, path: Path, version: str) -> Box:
    return add(Request(address=str(path), name="two", version=version), home)[0]


def locked(project: Project) -> BoxRef:
    return locking.pin(project, locking.read(locking.path_for(project.file))).machines[0].box


def test_the_second_disk_and_the_settings_tell_boxes_apart(home: HomeLayout, project: Project, tmp_path: Path) -> None:
    stated = b'Vagrant.configure("2") do |config|\n  config.ssh.username = "admin"\nend\n'
    boxes = [
        put(home, two_disks(tmp_path / "1.box", b"one"), "1"),
        put(home, two_disks(tmp_path / "2.box", b"two"), "2"),
        put(home, two_disks(tmp_path / "3.box", b"one", stated=stated), "3"),
    ]
    assert len({box.digest for box in boxes}) == 1
    for box in boxes:
        locking.write(locking.path_for(project.file), {"two": box})
        assert find(locked(project), home) == box
    BoxStore(home).remove(boxes[0], {})
    locking.write(locking.path_for(project.file), {"two": boxes[0]})
    assert find(locked(project), home) is None


def test_a_source_with_another_second_disk_is_not_what_the_lock_says(
    home: HomeLayout, project: Project, tmp_path: Path
) -> None:
    path = two_disks(tmp_path / "two.box", b"one")
    box = put(home, path, "1")
    locking.write(locking.path_for(project.file), {"two": box})
    ref = locked(project)
    BoxStore(home).remove(box, {})
    locking.provide([ref], project, home)
    fetched = find(ref, home)
    assert fetched is not None
    assert (fetched.further, fetched.named, find(BoxRef(address="two"), home)) == (box.further, False, None)
    BoxStore(home).remove(fetched, {})
    two_disks(path, b"replaced")
    with pytest.raises(VmctlError, match="the box two is not what the lock says") as caught:
        locking.provide([ref], project, home)
    assert "further: locked" in caught.value.details


def test_a_strangers_lock_gives_no_name(home: HomeLayout, project: Project, tmp_path: Path) -> None:
    evil = write(tmp_path / "evil.qcow2", qcow2(payload=b"evil"))
    box, _ = obtaining.obtain(Order(address=str(evil), named=False), home)
    for name in ("debian-12", "hashicorp/bionic64"):
        locking.write(locking.path_for(project.file), {"two": structs.replace(box, name=name, version="99")})
        BoxStore(home).remove(BoxStore(home).boxes()[0], {})
        locking.provide([locked(project)], project, home)
        assert len(BoxStore(home).boxes()) == 1
        assert find(BoxRef(address=name), home) is None


def test_a_lock_of_an_older_vmctl_is_read_and_names_the_first_disk(
    home: HomeLayout, project: Project, tmp_path: Path
) -> None:
    box = put(home, two_disks(tmp_path / "two.box", b"one"), "1")
    path = locking.path_for(project.file)
    locking.write(path, {"two": box})
    document = json.loads(path.read_text())
    assert document["schema"] == 2
    entry = document["boxes"]["two"][box.arch]
    assert entry["further"] == [box.further[0].digest]
    old = {name: value for name, value in entry.items() if name not in ("further", "settings")}
    path.write_text(json.dumps({"schema": 1, "boxes": {"two": {box.arch: old, "s390x": old}}}))
    assert locked(project) == structs.replace(REF, digest=box.digest)
    assert find(locked(project), home) == box
    locking.write(path, {"two": box})
    entries = json.loads(path.read_text())["boxes"]["two"]
    assert (entries[box.arch], entries["s390x"]) == (entry, old)


@pytest.mark.parametrize("entry", [{"digest": 7}, {"further": "abc"}, {"further": [7]}, {"settings": None}, {"new": 1}])
def test_a_damaged_lock(home: HomeLayout, project: Project, tmp_path: Path, entry: dict[str, object]) -> None:
    box = put(home, two_disks(tmp_path / "two.box", b"one"), "1")
    path = locking.path_for(project.file)
    locking.write(path, {"two": box})
    document = json.loads(path.read_text())
    document["boxes"]["two"][box.arch] |= entry
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="is damaged"):
        locking.read(path)


def test_machines_made_from_another_second_disk_are_told() -> None:
    ref = BoxRef(address="two", digest="a", further=("b",))
    used = BoxUsed(name="two", version="1", digest="a", user="u", further=("b",))
    assert locking.has_images(used, ref)
    assert not locking.has_images(structs.replace(used, further=("c",)), ref)
    assert not locking.has_images(structs.replace(used, digest="c"), ref)
    assert locking.has_images(structs.replace(used, further=None), ref)  # an older vmctl's record
