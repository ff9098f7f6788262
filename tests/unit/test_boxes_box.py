"""Which box is which: a name and an origin, and who may give a name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.box_images import qcow2, write
from vmctl.boxes import box_names, ensure, find, obtaining, store_upkeep
from vmctl.boxes.box import Box
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.request import Order
from vmctl.boxes.web import Access
from vmctl.errors import UsageError, VmctlError
from vmctl.events import Event, Warned
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "home")


def catalogue(place: Path, name: str, *, version: str = "1.0.0", salt: str = "") -> Path:
    """A catalogue on this host, and its one box, whose content follows from the place."""
    place.mkdir(exist_ok=True)
    write(place / "disk.qcow2", qcow2(payload=f"{place.name}{salt}".encode()))
    provider = {"name": "libvirt", "url": "disk.qcow2"}
    document = {"name": name, "versions": [{"version": version, "providers": [provider]}]}
    return write(place / "metadata.json", json.dumps(document).encode())


def obtain(home: HomeLayout, address: str | Path, **more: Any) -> tuple[Box, list[str]]:
    events: list[Event] = []
    box, _ = obtaining.obtain(Order(address=str(address), access=Access(), **more), home, report=events.append)
    return box, [event.text for event in events if isinstance(event, Warned)]


def images(home: HomeLayout) -> int:
    return len(list(home.boxes.rglob("*.qcow2")))


def test_two_catalogues_with_odd_names_are_two_boxes(home: HomeLayout, tmp_path: Path) -> None:
    one = catalogue(tmp_path / "one", "Acme Team/ubuntu 22 x64")
    other = catalogue(tmp_path / "other", "Acme Team/ubuntu.22 x64")
    first, warned = obtain(home, one)
    second, _ = obtain(home, other)
    assert (first.named, second.named, images(home)) == (False, False, 2)
    assert any("a name that no box may have" in text for text in warned)
    assert first.digest != second.digest
    assert [find(BoxRef(address=str(path)), home) for path in (one, other)] == [first, second]
    assert [ensure(BoxRef(address=str(path)), home) for path in (one, other)] == [first, second]
    assert find(BoxRef(address=first.name), home) is None  # nobody called it so


def test_two_catalogues_with_one_name_are_two_boxes_and_the_name_alone_is_refused(
    home: HomeLayout, tmp_path: Path
) -> None:
    paths = [catalogue(tmp_path / place, "acme/base") for place in ("one", "other")]
    boxes = [obtain(home, path)[0] for path in paths]
    assert [(box.name, box.version, box.origin) for box in boxes] == [
        ("acme/base", "1.0.0", str(path)) for path in paths
    ]
    assert images(home) == 2
    assert [obtain(home, path)[0].digest for path in paths] == [box.digest for box in boxes]
    with pytest.raises(UsageError, match="acme/base means several boxes of different origins") as caught:
        find(BoxRef(address="acme/base"), home)
    assert all(str(path) in caught.value.details for path in paths)
    BoxStore(home).remove(boxes[0], {})
    assert find(BoxRef(address="acme/base"), home) == boxes[1]


def test_versions_of_one_origin_make_no_other_superfluous(home: HomeLayout, tmp_path: Path) -> None:
    catalogue(tmp_path / "one", "acme/base")
    kept, _ = obtain(home, tmp_path / "one" / "metadata.json")
    older, _ = obtain(home, catalogue(tmp_path / "other", "acme/base", version="1.5"))
    obtain(home, catalogue(tmp_path / "other", "acme/base", version="2.0", salt="newer"))
    gone = store_upkeep.superfluous(BoxStore(home).boxes(), {})
    assert [box.directory for box in gone] == [older.directory]
    assert kept.directory not in [box.directory for box in gone]


@pytest.mark.parametrize("name", ["debian-12", "ubuntu-24.04", "hashicorp/bionic64", "jammy"])
@pytest.mark.parametrize("kind", ["file", "catalogue"])
def test_what_a_vmfile_names_by_its_address_gets_no_name(
    home: HomeLayout, tmp_path: Path, name: str, kind: str
) -> None:
    path = write(tmp_path / f"{name.replace('/', '-')}.qcow2", qcow2(payload=b"a stranger's"))
    address = path if kind == "file" else catalogue(tmp_path / "cat", name)
    box = ensure(BoxRef(address=str(address)), home)
    assert not box.named
    assert find(BoxRef(address=str(address)), home) == box
    assert (find(BoxRef(address=name), home), find(BoxRef(address=box.name), home)) == (None, None)
    assert BoxStore(home).names() == []


@pytest.mark.parametrize("name", ["debian-12", "ubuntu-24.04"])
def test_names_of_vmctls_own_boxes_are_given_to_no_other(home: HomeLayout, tmp_path: Path, name: str) -> None:
    file = write(tmp_path / f"{name}.qcow2", qcow2())
    for order in ({"address": file}, {"address": file, "name": name}, {"address": catalogue(tmp_path / "c", name)}):
        with pytest.raises(UsageError, match=f"the name {name} belongs to a box of vmctl's own") as caught:
            obtain(home, **order)
        assert "--name" in caught.value.hint
    assert BoxStore(home).boxes() == []
    assert obtain(home, file, name="mine")[0].name == "mine"


def test_reserved_names_are_those_of_the_catalogue_and_the_recipes() -> None:
    from vmctl.boxes import builtin, recipe

    assert all(box_names.is_reserved(name) for name in [*builtin.entries(), *recipe.names()])
    assert not any(map(box_names.is_reserved, ["jammy", "org/debian-12", "", "..", "urls", "debian-12/", "catalogue"]))


def test_an_asked_for_box_gets_its_name_without_a_second_image(home: HomeLayout, tmp_path: Path) -> None:
    path = write(tmp_path / "jammy.qcow2", qcow2())
    label = ensure(BoxRef(address=str(path)), home)
    box, _ = obtain(home, path)
    assert (box.directory, box.named, images(home)) == (label.directory, True, 1)
    assert find(BoxRef(address="jammy"), home) == box


def test_a_catalogues_label_becomes_no_name_by_adding_its_file(home: HomeLayout, tmp_path: Path) -> None:
    ensure(BoxRef(address=str(catalogue(tmp_path / "cat", "hashicorp/bionic64"))), home)
    box, _ = obtain(home, tmp_path / "cat" / "disk.qcow2")
    assert (box.name, box.named) == ("disk", True)
    assert find(BoxRef(address="hashicorp/bionic64"), home) is None


def test_the_version_asked_for_once_is_not_what_a_catalogue_means(home: HomeLayout, tmp_path: Path) -> None:
    path = catalogue(tmp_path / "cat", "acme/base")
    write(tmp_path / "cat" / "new.qcow2", qcow2(payload=b"new"))
    document = json.loads(path.read_text())
    document["versions"].append({"version": "2.0", "providers": [{"name": "libvirt", "url": "new.qcow2"}]})
    path.write_text(json.dumps(document))
    assert obtain(home, path, version="1.0.0")[0].version == "1.0.0"
    assert ensure(BoxRef(address=str(path)), home).version == "2.0"


def aged(box: Box, **changes: Any) -> None:
    """Make a box.json as an older vmctl wrote it."""
    data = json.loads((box.directory / "box.json").read_text())
    data = {name: value for name, value in data.items() if name not in ("origin", "named")} | changes
    (box.directory / "box.json").write_text(json.dumps(data))


def test_boxes_of_an_older_vmctl_are_what_they_were(home: HomeLayout, tmp_path: Path) -> None:
    plain, _ = obtain(home, write(tmp_path / "jammy.qcow2", qcow2()))
    named, _ = obtain(home, write(tmp_path / "x.qcow2", qcow2(payload=b"x")), name="jammy", version="1")
    listed, _ = obtain(home, catalogue(tmp_path / "cat", "acme/base"))
    for box in (plain, named, listed):
        aged(box)
    found = {box.directory: box for box in BoxStore(home).boxes()}
    assert [(found[box.directory].origin, found[box.directory].named) for box in (plain, named, listed)] == [
        (str(tmp_path / "jammy.qcow2"), True), ("", True), (str(tmp_path / "cat" / "metadata.json"), True)
    ]  # fmt: skip
    newest = find(BoxRef(address="jammy"), home)
    assert newest is not None
    assert newest.directory == named.directory
    assert obtain(home, tmp_path / "cat" / "metadata.json")[0].directory == listed.directory


def test_a_file_that_an_older_vmctl_took_in_is_followed_by_its_next_version(home: HomeLayout, tmp_path: Path) -> None:
    path = write(tmp_path / "jammy.qcow2", qcow2())
    aged(obtain(home, path)[0])
    write(path, qcow2(payload=b"rebuilt"))
    newer, warned = obtain(home, path)
    assert find(BoxRef(address="jammy"), home) == newer
    assert warned == []


def test_who_adds_what_its_name_does_not_mean_is_told(home: HomeLayout, tmp_path: Path) -> None:
    mine, _ = obtain(home, write(tmp_path / "x.qcow2", qcow2()), name="jammy")
    other, warned = obtain(home, write(tmp_path / "jammy.qcow2", qcow2(payload=b"other")))
    assert other.directory != mine.directory
    assert find(BoxRef(address="jammy"), home) == mine
    assert any(f"the name jammy means {mine}" in text for text in warned)


def test_a_strangers_debian_in_an_older_store_is_not_debian(home: HomeLayout, tmp_path: Path) -> None:
    box, _ = obtain(home, write(tmp_path / "mine.qcow2", qcow2()), name="mine", version="99")
    target = home.boxes / "debian-12" / "99"
    target.mkdir(parents=True)
    box.directory.rename(target / box.arch)
    aged(Box.from_json({**box.to_json(), "name": "debian-12"}, target / box.arch), name="debian-12")
    assert [one.name for one in BoxStore(home).boxes()] == ["debian-12"]
    assert find(BoxRef(address="debian-12"), home) is None


def test_the_same_version_without_the_same_checksum_is_not_there_already(home: HomeLayout, tmp_path: Path) -> None:
    path = catalogue(tmp_path / "cat", "acme/base")
    obtain(home, path)
    catalogue(tmp_path / "cat", "acme/base", salt="replaced")
    document = json.loads(path.read_text())
    provider = document["versions"][0]["providers"][0]
    replaced = (tmp_path / "cat" / "disk.qcow2").read_bytes()
    provider |= {"checksum_type": "sha256", "checksum": hashlib.sha256(replaced).hexdigest()}
    path.write_text(json.dumps(document))
    with pytest.raises(VmctlError, match="is in the store already, with different content"):
        obtain(home, path)
