"""Boxes that hold one system in several forms: a disk for virtual machines, a root file system for containers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from msgspec import structs

from vmctl.boxes import finding
from vmctl.boxes.box import RECIPE, Box, BoxImage, BoxInfo
from vmctl.boxes.box_store import BoxStore
from vmctl.driver import CONTAINER
from vmctl.errors import VmctlError
from vmctl.layout import HomeLayout
from vmctl.spec import MIB, BoxRef


def add(home: HomeLayout, *, container: bool, version: str = "1") -> Box:
    """A box as a recipe's build leaves it."""
    draft = home.root / "draft"
    draft.mkdir(parents=True)
    disk = _form(b"disk of " + version.encode(), "qcow2")
    forms = (_form(b"tree of " + version.encode(), CONTAINER),) if container else ()
    info = BoxInfo(
        name="debian-12", version=version, arch="x86_64", digest=disk[0].digest, format="qcow2",
        virtual_size=disk[0].virtual_size, size=disk[0].size, forms=tuple(one for one, _ in forms),
        source=RECIPE + "debian-12", origin=RECIPE + "debian-12",
    )  # fmt: skip
    for one, data in (disk, *forms):
        (draft / one.image_name).write_bytes(data)
    return BoxStore(home).take_in(draft, info, numbered=False)[0]


def _form(data: bytes, kind: str) -> tuple[BoxImage, bytes]:
    digest = hashlib.sha256(data).hexdigest()
    return BoxImage(digest=digest, format=kind, virtual_size=64 * MIB, size=len(data)), data


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "home")


def test_a_driver_gets_the_form_that_it_takes(home: HomeLayout) -> None:
    box = add(home, container=True)
    assert box.disk().format == box.disk(("qcow2", "raw")).format == "qcow2"
    tree = box.disk((CONTAINER,))
    assert (tree.format, tree.path.read_bytes(), tree.further) == (CONTAINER, b"tree of 1", ())
    assert not box.has_form(("vmdk",))
    with pytest.raises(ValueError, match="in none of the formats vmdk"):
        box.disk(("vmdk",))


def test_what_was_built_without_a_form_is_built_again(home: HomeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    old = add(home, container=False)
    monkeypatch.setattr("vmctl.boxes.box_build.build", lambda *_, **__: add(home, container=True, version="2"))
    ref = BoxRef(address="debian-12")
    assert finding.ensure(ref, home, formats=("qcow2",)) == old
    assert finding.ensure(ref, home, formats=(CONTAINER,)).version == "2"


def test_a_locked_box_is_never_built_again(home: HomeLayout) -> None:
    old = add(home, container=False)
    assert finding.ensure(BoxRef(address="debian-12", digest=old.digest), home, formats=(CONTAINER,)) == old


def test_a_form_that_is_named_by_no_digest_is_refused(home: HomeLayout) -> None:
    box = add(home, container=True)
    bad = structs.replace(box, forms=(structs.replace(box.forms[0], digest="../../etc"),))
    with pytest.raises(VmctlError) as caught:
        Box.from_json(bad.to_json(), box.directory)
    assert "is not an image of a box" in caught.value.details
