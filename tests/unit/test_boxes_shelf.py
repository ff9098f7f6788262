from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.killed_child import killed_at
from vmctl.boxes.box import Box, BoxInfo
from vmctl.boxes.shelf import Shelf, lock_path
from vmctl.errors import LockTimeout, UsageError, VmctlError, WrongState
from vmctl.layout import HomeLayout
from vmctl.store import files, locks


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(HomeLayout(tmp_path / "vmctl"))


def info(name: str = "debian", version: str = "1.0", digest: str = "d" * 64, **more: object) -> BoxInfo:
    known = {"arch": "x86_64", "format": "qcow2", "virtual_size": 10, "size": 5, "source": "/x", **more}
    return BoxInfo(name=name, version=version, digest=digest, **known)  # type: ignore[arg-type]  # by name


def put(shelf: Shelf, one: BoxInfo) -> Box:
    with shelf.draft() as draft:
        directory = draft / "box"
        directory.mkdir()
        (directory / one.image_name).write_bytes(b"image")
        return shelf.publish(directory, one)


def leftovers(shelf: Shelf) -> list[str]:
    return [path.name for path in shelf.home.boxes.iterdir() if path.name.startswith(".")]


def test_a_box_is_found_as_it_was_published(shelf: Shelf) -> None:
    box = put(shelf, info(user="me", defaults={"memory": "2GiB"}, firmware="uefi", cloud_init=False))
    assert shelf.find("debian") == box
    assert (box.user, box.defaults, box.firmware, box.cloud_init) == ("me", {"memory": "2GiB"}, "uefi", False)
    assert box.path.read_bytes() == b"image"
    assert box.path.stat().st_mode & 0o777 == 0o444
    assert (box.disk().path, box.disk().digest, box.disk().firmware) == (box.path, "d" * 64, "uefi")
    assert leftovers(shelf) == []


@pytest.mark.parametrize(
    ("said", "seeding"),
    [({}, "cloud-init"), ({"cloud_init": False}, "none"), ({"seeding": "vmctl"}, "vmctl"),
     ({"seeding": "vmctl", "cloud_init": False}, "none")],
)  # fmt: skip
def test_a_box_says_how_it_is_seeded(shelf: Shelf, said: dict[str, Any], seeding: str) -> None:
    box = put(shelf, info(**said))
    assert json.loads((box.directory / "box.json").read_text())["seeding"] == seeding
    assert shelf.boxes("debian")[0].seeding == seeding


def test_a_box_that_an_older_vmctl_built_has_cloud_init(shelf: Shelf) -> None:
    box = put(shelf, info())
    path = box.directory / "box.json"
    path.chmod(0o644)
    path.write_text(json.dumps({key: value for key, value in box.to_json().items() if key != "seeding"}))
    assert shelf.boxes("debian")[0].seeding == "cloud-init"


def test_the_newest_version_that_satisfies_wins(shelf: Shelf) -> None:
    for version in ("1.9", "1.10", "2.0.beta", "0.20260101.1"):
        put(shelf, info(version=version))
    put(shelf, info(version="3", arch="aarch64"))
    found = [shelf.find("debian", constraint) for constraint in ("", "<1.10", "~>1.0", ">=2.0.a", ">3")]
    assert [box and box.version for box in found] == ["1.10", "1.9", "1.10", "2.0.beta", None]
    assert shelf.find("debian", arch="arm64") is not None


def test_names_with_a_slash_and_names_alike_do_not_collide(shelf: Shelf) -> None:
    for name in ("org/debian", "org%2Fdebian".replace("%", "-"), "org"):
        put(shelf, info(name))
    assert shelf.names() == ["org", "org-2Fdebian", "org/debian"]
    assert [box.name for box in shelf.boxes()] == shelf.names()
    assert shelf.find("debian") is None


def test_an_empty_store(shelf: Shelf) -> None:
    assert (shelf.boxes(), shelf.names(), shelf.find("x"), shelf.from_source("/x")) == ([], [], None, None)


def test_the_same_again_is_the_same_box_and_another_content_is_refused(shelf: Shelf) -> None:
    first = put(shelf, info())
    assert put(shelf, info()) == first
    with pytest.raises(UsageError, match="is in the store already, with another content"):
        put(shelf, info(digest="e" * 64))
    assert shelf.boxes() == [first]
    assert leftovers(shelf) == []


def test_a_box_in_use_stays_and_the_error_names_the_users(shelf: Shelf) -> None:
    box = put(shelf, info())
    with pytest.raises(WrongState, match=r"debian 1[.]0") as caught:
        shelf.remove(box, {"d" * 64: ["machine web of /p", "machine db of /q"]})
    assert "machine web of /p" in caught.value.details
    assert "machine db of /q" in caught.value.details
    assert box.path.exists()


def test_a_removed_box_leaves_nothing_and_its_neighbours_stay(shelf: Shelf) -> None:
    old, new = put(shelf, info()), put(shelf, info(version="2"))
    shelf.remove(old, {"e" * 64: ["machine web of /p"]})
    assert shelf.boxes() == [new]
    shelf.remove(new, {})
    shelf.remove(new, {})
    assert list(shelf.home.boxes.iterdir()) == []


def test_a_failure_leaves_no_draft(shelf: Shelf) -> None:
    def fail() -> None:
        with shelf.draft() as draft:
            (draft / "part").write_bytes(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert leftovers(shelf) == []


def test_drafts_of_others_that_live_are_left_alone(shelf: Shelf) -> None:
    with shelf.draft() as one, shelf.draft() as other:
        assert one.exists()
        assert other.exists()


def test_remains_that_can_not_be_removed_are_told_of_and_stop_nobody(shelf: Shelf) -> None:
    told: list[str] = []
    shelf = Shelf(shelf.home, lambda event: told.append(getattr(event, "text", "")))
    (shelf.home.boxes / ".new-left").mkdir(parents=True)

    def refuse(path: Path) -> None:
        if path.name == ".new-left":
            raise PermissionError(13, "not yours", str(path))

    with shelf.draft(refuse) as draft:
        assert draft.is_dir()
    assert ["not yours" in text and ".new-left" in text for text in told] == [True]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"schema": 1, "name": "debian"}', '{"schema": 99}'])
def test_a_damaged_box_is_an_error_that_names_its_directory(shelf: Shelf, content: str) -> None:
    box = put(shelf, info())
    (box.directory / "box.json").write_text(content)
    with pytest.raises(VmctlError, match=re.escape(str(box.directory))):
        shelf.find("debian")


CALLS = ("fsync", "rename", "mkdir", "open", "unlink", "rmdir", "replace")


def test_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(shelf: Shelf) -> None:
    old = put(shelf, info())
    seen = set()
    for step in range(1, 200):
        status = killed_at(step, lambda: shelf.remove(put(shelf, info(version="2")), {}), CALLS)
        boxes = [box.version for box in shelf.boxes("debian")]
        assert boxes in (["1.0"], ["2", "1.0"])
        assert status in (0, signal.SIGKILL)
        seen.add(tuple(boxes))
        for box in shelf.boxes("debian"):
            assert box.path.read_bytes() == b"image"
        with shelf.draft():
            assert len(leftovers(shelf)) == 1  # what was left is gone, but for this one
        if len(boxes) > 1:
            shelf.remove(shelf.boxes("debian")[0], {})
        if status == 0:
            break
    else:
        pytest.fail("it never came to its end")
    assert seen == {("1.0",), ("2", "1.0")}
    assert shelf.boxes() == [old]


def warned(shelf: Shelf) -> list[str]:
    """What listing the store tells of."""
    told: list[str] = []
    Shelf(shelf.home, lambda event: told.append(getattr(event, "text", ""))).boxes()
    return told


def break_json(box: Box) -> None:
    (box.directory / "box.json").write_bytes(b"")


def break_image(box: Box) -> None:
    box.path.unlink()


def break_kind(box: Box) -> None:
    (box.directory / "box.json").unlink()
    (box.directory / "box.json").mkdir()


def break_link(box: Box) -> None:
    aside = box.directory.with_name("aside")
    box.path.rename(aside)
    box.path.symlink_to(aside)


def break_name(box: Box) -> None:
    path = box.directory / "box.json"
    path.write_text(path.read_text().replace('"name": "bad"', '"name": "debian"'))


def break_digest(box: Box) -> None:
    path = box.directory / "box.json"
    path.write_text(path.read_text().replace("e" * 64, "../../../../etc/passwd"))


BREAKS = [break_json, break_image, break_kind, break_link, break_name, break_digest]


@pytest.mark.parametrize("damage", BREAKS)
def test_a_damaged_box_hides_no_other_and_is_in_nobodys_way(shelf: Shelf, damage: Callable[[Box], None]) -> None:
    good, bad = put(shelf, info()), put(shelf, info("bad", digest="e" * 64))
    damage(bad)
    assert shelf.boxes() == [good]
    assert shelf.find("debian") == good
    assert [str(bad.directory) in text for text in warned(shelf)] == [True]
    assert [one.directory for one in shelf.damaged()] == [bad.directory]
    with pytest.raises(VmctlError) as caught:
        shelf.find("bad")
    assert not caught.value.hint.startswith("rm")
    again = put(shelf, info("bad", digest="e" * 64))
    assert again.directory != bad.directory
    assert again in shelf.boxes()
    shelf.remove(again, {})
    assert bad.directory.is_dir()  # it may be the only copy of something


def test_an_older_box_is_not_taken_where_a_damaged_one_may_be_the_newest(shelf: Shelf) -> None:
    old, new = put(shelf, info()), put(shelf, info(version="2"))
    break_json(new)
    assert shelf.find("debian", "<2") == old
    with pytest.raises(VmctlError, match="is damaged"):
        shelf.find("debian")
    newest = put(shelf, info(version="3"))
    assert shelf.find("debian") == newest


def test_what_is_foreign_in_the_store_is_no_box_and_links_lead_nowhere(shelf: Shelf, tmp_path: Path) -> None:
    elsewhere = Shelf(HomeLayout(tmp_path / "elsewhere"))
    put(elsewhere, info("planted"))
    box = put(shelf, info())
    (shelf.home.boxes / "planted").symlink_to(elsewhere.home.boxes / "planted")
    (shelf.home.boxes / "debian" / "9").symlink_to(elsewhere.home.boxes / "planted" / "1.0")
    (shelf.home.boxes / "file").write_text("x")
    (shelf.home.boxes / "dangling").symlink_to("nowhere")
    (shelf.home.boxes / "empty" / "1" / "x86_64").mkdir(parents=True)
    assert shelf.boxes() == [box]
    assert warned(shelf) == []
    assert put(shelf, info("empty", "1")).directory.name == "x86_64.2"


def test_a_box_that_was_removed_is_not_annotated_back(shelf: Shelf) -> None:
    box = put(shelf, info())
    shelf.remove(box, {})
    assert shelf.annotate(box, stamps={"/x": "1"}) is None
    assert list(shelf.home.boxes.iterdir()) == []


def test_annotations_of_two_are_both_kept(shelf: Shelf) -> None:
    box = put(shelf, info())
    shelf.annotate(box, stamps={"/x": "1"})
    shelf.annotate(box, stamps={"/y": "2"})
    assert shelf.boxes()[0].provenance["stamps"] == {"/x": "1", "/y": "2"}


@pytest.mark.parametrize(
    "name", ["drafts", "drafts.holder", "build-debian-12", "x.holder", "locks", "name", "org/drafts"]
)
def test_no_name_of_a_box_is_that_of_a_lock(shelf: Shelf, name: str) -> None:
    done: list[bool] = []

    def work() -> None:
        box = put(shelf, info(name))
        with locks.hold(lock_path(shelf.home, "name", "x"), "another box"):
            shelf.remove(box, {})
        done.append(shelf.boxes() == [])

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(20)
    assert done == [True]


def test_who_uses_a_box_is_asked_when_nobody_can_take_it_any_more(shelf: Shelf) -> None:
    box = put(shelf, info())

    def users() -> dict[str, list[str]]:
        with pytest.raises(LockTimeout), locks.hold(lock_path(shelf.home, "name", "debian"), "it", timeout=0):
            pass
        return {box.digest: ["machine web of /p"]}

    with pytest.raises(WrongState, match="in use"):
        shelf.remove(box, users)
    assert shelf.has(box)
    shelf.remove(box, dict)
    assert not shelf.has(box)


def test_a_store_that_can_not_be_written_is_one_clear_error_and_can_be_read(shelf: Shelf) -> None:
    box = put(shelf, info())
    files.remove_tree(shelf.home.locks)
    shelf.home.locks.write_text("in the way")
    assert shelf.find("debian") == box
    with pytest.raises(VmctlError, match="the store of boxes can not be written") as caught:
        shelf.remove(box, {})
    assert str(shelf.home.locks) in caught.value.details
    assert shelf.boxes() == [box]
