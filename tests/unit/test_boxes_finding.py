from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.box_images import qcow2, write
from vmctl import boxes
from vmctl.boxes import box_build
from vmctl.boxes.adding import add
from vmctl.boxes.request import Request
from vmctl.boxes.store_upkeep import users
from vmctl.errors import UsageError, VmctlError, WrongState
from vmctl.events import Event, Warned
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef
from vmctl.store import project_identity, records


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "vmctl")


def put(home: HomeLayout, tmp_path: Path, name: str = "jammy", version: str = "1.0") -> boxes.Box:
    path = write(tmp_path / f"{name}-{version}.qcow2", qcow2(payload=version.encode()))
    return add(Request(address=str(path), name=name, version=version), home)[0]


def test_a_name_is_looked_up_with_its_constraint(home: HomeLayout, tmp_path: Path) -> None:
    old, new = put(home, tmp_path), put(home, tmp_path, version="1.2")
    assert boxes.find(BoxRef(address="jammy"), home) == new
    assert boxes.ensure(BoxRef(address="jammy", constraint="<1.2"), home) == old
    assert boxes.find(BoxRef(address="noble"), home) is None
    with pytest.raises(UsageError, match="invalid version constraint"):
        boxes.find(BoxRef(address="jammy", constraint=">>1"), home)


def test_an_unknown_name_brings_near_ones(home: HomeLayout, tmp_path: Path) -> None:
    put(home, tmp_path)
    with pytest.raises(VmctlError, match=r"there is no box .debain-12., did you mean .debian-12.") as caught:
        boxes.ensure(BoxRef(address="debain-12"), home)
    assert {"debian-12", "jammy"} <= set(re.split(r"[:,]? ", caught.value.details))
    with pytest.raises(VmctlError, match="no version of box jammy satisfies >2") as caught:
        boxes.ensure(BoxRef(address="jammy", constraint=">2"), home)
    assert "1.0" in caught.value.details


def test_a_path_that_is_not_there(home: HomeLayout) -> None:
    with pytest.raises(UsageError, match=r"the box /no/such[.]qcow2 does not exist"):
        boxes.ensure(BoxRef(address="/no/such.qcow2"), home)


def test_a_box_that_has_a_recipe_is_built_where_it_is_absent(
    home: HomeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = put(home, tmp_path, "made", "3")
    asked: list[tuple[str, str]] = []

    def build(name: str, _home: HomeLayout, *, constraint: str, report: object) -> boxes.Box:
        asked.append((name, constraint))
        return built

    monkeypatch.setattr(box_build, "build", build)
    assert boxes.ensure(BoxRef(address="debian-12", constraint="~>12"), home) == built
    assert asked == [("debian-12", "~>12")]


def test_what_a_box_says_of_its_machines(home: HomeLayout, tmp_path: Path) -> None:
    box = put(home, tmp_path)
    metadata = box.directory / "box.json"
    metadata.write_text(metadata.read_text().replace('"defaults": {}', '"defaults": {"memory": "2GiB"}'))
    defaults = boxes.box_defaults(home)
    assert defaults(BoxRef(address="jammy")) == {"memory": "2GiB"}
    assert [defaults(BoxRef(address=other)) for other in ("absent", "/no/such")] == [{}, {}]


def test_machines_of_all_projects_use_boxes(home: HomeLayout, tmp_path: Path) -> None:
    box = put(home, tmp_path)
    used = records.BoxUsed(name=box.name, version=box.version, digest=box.digest, user="vmctl")
    for project, machine in (("one", "web"), ("two", "db"), ("gone", "x")):
        (tmp_path / project).mkdir()
        place = project_identity.ensure(tmp_path / project, home)
        record = records.Record(
            name=f"{project}-{machine}", project=place.id, machine=machine, provider="fake", box=used, version="0",
            user="vmctl",
        )  # fmt: skip
        records.save(place.layout(home).machine(machine), record)
    (tmp_path / "gone").rename(tmp_path / "moved")
    events: list[Event] = []
    found = users(home, report=events.append)
    assert found == {box.digest: [f"machine web of {tmp_path}/one", f"machine db of {tmp_path}/two"]}
    assert [type(event) for event in events] == [Warned]
    with pytest.raises(WrongState, match="is in use"):
        boxes.box_store.BoxStore(home).remove(box, found)
