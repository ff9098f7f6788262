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
from vmctl.boxes.box_store import BoxStore, lock_path
from vmctl.errors import LockTimeout, UsageError, VmctlError, WrongState
from vmctl.layout import HomeLayout
from vmctl.store import files, locks


@pytest.fixture
def box_store(tmp_path: Path) -> BoxStore:
    return BoxStore(HomeLayout(tmp_path / "vmctl"))


def info(name: str = "debian", version: str = "1.0", digest: str = "d" * 64, **more: object) -> BoxInfo:
    known = {"arch": "x86_64", "format": "qcow2", "virtual_size": 10, "size": 5, "source": "/x", **more}
    return BoxInfo(name=name, version=version, digest=digest, **known)  # type: ignore[arg-type]  # by name


def put(box_store: BoxStore, one: BoxInfo) -> Box:
    with box_store.draft() as draft:
        directory = draft / "box"
        directory.mkdir()
        (directory / one.images[0].image_name).write_bytes(b"image")
        return box_store.publish(directory, one)


def leftovers(box_store: BoxStore) -> list[str]:
    return [path.name for path in box_store.home.boxes.iterdir() if path.name.startswith(".")]


def test_a_box_is_found_as_it_was_published(box_store: BoxStore) -> None:
    box = put(box_store, info(user="me", defaults={"memory": "2GiB"}, firmware="uefi", cloud_init=False))
    assert box_store.find("debian") == box
    assert (box.user, box.defaults, box.firmware, box.cloud_init) == ("me", {"memory": "2GiB"}, "uefi", False)
    assert box.path.read_bytes() == b"image"
    assert box.path.stat().st_mode & 0o777 == 0o444
    assert (box.disk().path, box.disk().digest, box.disk().firmware) == (box.path, "d" * 64, "uefi")
    assert leftovers(box_store) == []


@pytest.mark.parametrize(
    ("stated", "seeding"),
    [({}, "cloud-init"), ({"cloud_init": False}, "none"), ({"seeding": "vmctl"}, "vmctl"),
     ({"seeding": "vmctl", "cloud_init": False}, "none")],
)  # fmt: skip
def test_a_box_says_how_it_is_seeded(box_store: BoxStore, stated: dict[str, Any], seeding: str) -> None:
    box = put(box_store, info(**stated))
    assert json.loads((box.directory / "box.json").read_text())["seeding"] == seeding
    assert box_store.boxes("debian")[0].seeding == seeding


def test_a_box_that_an_older_vmctl_built_has_cloud_init(box_store: BoxStore) -> None:
    box = put(box_store, info())
    path = box.directory / "box.json"
    path.chmod(0o644)
    path.write_text(json.dumps({key: value for key, value in box.to_json().items() if key != "seeding"}))
    assert box_store.boxes("debian")[0].seeding == "cloud-init"


def test_the_newest_version_that_satisfies_wins(box_store: BoxStore) -> None:
    for version in ("1.9", "1.10", "2.0.beta", "0.20260101.1"):
        put(box_store, info(version=version))
    put(box_store, info(version="3", arch="aarch64"))
    found = [box_store.find("debian", constraint) for constraint in ("", "<1.10", "~>1.0", ">=2.0.a", ">3")]
    assert [box and box.version for box in found] == ["1.10", "1.9", "1.10", "2.0.beta", None]
    assert box_store.find("debian", arch="arm64") is not None


def test_names_with_a_slash_and_names_alike_do_not_collide(box_store: BoxStore) -> None:
    for name in ("org/debian", "org%2Fdebian".replace("%", "-"), "org"):
        put(box_store, info(name))
    assert box_store.names() == ["org", "org-2Fdebian", "org/debian"]
    assert [box.name for box in box_store.boxes()] == box_store.names()
    assert box_store.find("debian") is None


def test_an_empty_store(box_store: BoxStore) -> None:
    assert not box_store.boxes()
    assert not box_store.names()
    assert box_store.find("x") is box_store.from_source("/x") is None


def test_the_same_again_is_the_same_box_and_another_content_is_refused(box_store: BoxStore) -> None:
    first = put(box_store, info())
    assert put(box_store, info()) == first
    with pytest.raises(UsageError, match="is in the store already, with different content"):
        put(box_store, info(digest="e" * 64))
    assert box_store.boxes() == [first]
    assert leftovers(box_store) == []


def test_a_box_in_use_stays_and_the_error_names_the_users(box_store: BoxStore) -> None:
    box = put(box_store, info())
    with pytest.raises(WrongState, match=r"debian 1[.]0") as caught:
        box_store.remove(box, {"d" * 64: ["machine web of /p", "machine db of /q"]})
    assert "machine web of /p" in caught.value.details
    assert "machine db of /q" in caught.value.details
    assert box.path.exists()


def test_a_removed_box_leaves_nothing_and_its_neighbours_stay(box_store: BoxStore) -> None:
    old, new = put(box_store, info()), put(box_store, info(version="2"))
    box_store.remove(old, {"e" * 64: ["machine web of /p"]})
    assert box_store.boxes() == [new]
    box_store.remove(new, {})
    box_store.remove(new, {})
    assert list(box_store.home.boxes.iterdir()) == []


def test_a_failure_leaves_no_draft(box_store: BoxStore) -> None:
    def fail() -> None:
        with box_store.draft() as draft:
            (draft / "part").write_bytes(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert leftovers(box_store) == []


def test_drafts_of_others_that_live_are_left_alone(box_store: BoxStore) -> None:
    with box_store.draft() as one, box_store.draft() as other:
        assert one.exists()
        assert other.exists()


def test_remains_that_can_not_be_removed_are_told_of_and_stop_nobody(box_store: BoxStore) -> None:
    reported: list[str] = []
    box_store = BoxStore(box_store.home, lambda event: reported.append(getattr(event, "text", "")))
    (box_store.home.boxes / ".new-left").mkdir(parents=True)

    def refuse(path: Path) -> None:
        if path.name == ".new-left":
            raise PermissionError(13, "not yours", str(path))

    with box_store.draft(refuse) as draft:
        assert draft.is_dir()
    assert ["not yours" in text and ".new-left" in text for text in reported] == [True]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"schema": 1, "name": "debian"}', '{"schema": 99}'])
def test_a_damaged_box_is_an_error_that_names_its_directory(box_store: BoxStore, content: str) -> None:
    box = put(box_store, info())
    (box.directory / "box.json").write_text(content)
    with pytest.raises(VmctlError, match=re.escape(str(box.directory))):
        box_store.find("debian")


CALLS = ("fsync", "rename", "mkdir", "open", "unlink", "rmdir", "replace")


def test_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(box_store: BoxStore) -> None:
    old = put(box_store, info())
    seen = set()
    for step in range(1, 200):
        status = killed_at(step, lambda: box_store.remove(put(box_store, info(version="2")), {}), CALLS)
        boxes = [box.version for box in box_store.boxes("debian")]
        assert boxes in (["1.0"], ["2", "1.0"])
        assert status in (0, signal.SIGKILL)
        seen.add(tuple(boxes))
        for box in box_store.boxes("debian"):
            assert box.path.read_bytes() == b"image"
        with box_store.draft():
            assert len(leftovers(box_store)) == 1  # what was left is gone, but for this one
        if len(boxes) > 1:
            box_store.remove(box_store.boxes("debian")[0], {})
        if status == 0:
            break
    else:
        pytest.fail("it never came to its end")
    assert seen == {("1.0",), ("2", "1.0")}
    assert box_store.boxes() == [old]


def warned(box_store: BoxStore) -> list[str]:
    """What listing the store tells of."""
    reported: list[str] = []
    BoxStore(box_store.home, lambda event: reported.append(getattr(event, "text", ""))).boxes()
    return reported


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
def test_a_damaged_box_hides_no_other_and_is_in_nobodys_way(box_store: BoxStore, damage: Callable[[Box], None]) -> None:
    good, bad = put(box_store, info()), put(box_store, info("bad", digest="e" * 64))
    damage(bad)
    assert box_store.boxes() == [good]
    assert box_store.find("debian") == good
    assert [str(bad.directory) in text for text in warned(box_store)] == [True]
    assert [one.directory for one in box_store.damaged()] == [bad.directory]
    with pytest.raises(VmctlError) as caught:
        box_store.find("bad")
    assert not caught.value.hint.startswith("rm")
    again = put(box_store, info("bad", digest="e" * 64))
    assert again.directory != bad.directory
    assert again in box_store.boxes()
    box_store.remove(again, {})
    assert bad.directory.is_dir()  # it may be the only copy of something


def test_an_older_box_is_not_taken_where_a_damaged_one_may_be_the_newest(box_store: BoxStore) -> None:
    old, new = put(box_store, info()), put(box_store, info(version="2"))
    break_json(new)
    assert box_store.find("debian", "<2") == old
    with pytest.raises(VmctlError, match="is damaged"):
        box_store.find("debian")
    newest = put(box_store, info(version="3"))
    assert box_store.find("debian") == newest


def test_what_is_foreign_in_the_store_is_no_box_and_links_lead_nowhere(box_store: BoxStore, tmp_path: Path) -> None:
    elsewhere = BoxStore(HomeLayout(tmp_path / "elsewhere"))
    put(elsewhere, info("planted"))
    box = put(box_store, info())
    (box_store.home.boxes / "planted").symlink_to(elsewhere.home.boxes / "planted")
    (box_store.home.boxes / "debian" / "9").symlink_to(elsewhere.home.boxes / "planted" / "1.0")
    (box_store.home.boxes / "file").write_text("x")
    (box_store.home.boxes / "dangling").symlink_to("nowhere")
    (box_store.home.boxes / "empty" / "1" / "x86_64").mkdir(parents=True)
    assert box_store.boxes() == [box]
    assert warned(box_store) == []
    assert put(box_store, info("empty", "1")).directory.name == "x86_64.2"


def test_a_box_that_was_removed_is_not_annotated_back(box_store: BoxStore) -> None:
    box = put(box_store, info())
    box_store.remove(box, {})
    assert box_store.annotate(box, stamps={"/x": "1"}) is None
    assert list(box_store.home.boxes.iterdir()) == []


def test_annotations_of_two_are_both_kept(box_store: BoxStore) -> None:
    box = put(box_store, info())
    box_store.annotate(box, stamps={"/x": "1"})
    box_store.annotate(box, stamps={"/y": "2"})
    assert box_store.boxes()[0].provenance["stamps"] == {"/x": "1", "/y": "2"}


@pytest.mark.parametrize(
    "name", ["drafts", "drafts.holder", "build-debian-12", "x.holder", "locks", "name", "org/drafts"]
)
def test_no_name_of_a_box_is_that_of_a_lock(box_store: BoxStore, name: str) -> None:
    done: list[bool] = []

    def work() -> None:
        box = put(box_store, info(name))
        with locks.hold(lock_path(box_store.home, "name", "x"), "another box"):
            box_store.remove(box, {})
        done.append(box_store.boxes() == [])

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(20)
    assert done == [True]


def test_who_uses_a_box_is_asked_when_nobody_can_take_it_any_more(box_store: BoxStore) -> None:
    box = put(box_store, info())

    def users() -> dict[str, list[str]]:
        with pytest.raises(LockTimeout), locks.hold(lock_path(box_store.home, "name", "debian"), "it", timeout=0):
            pass
        return {box.digest: ["machine web of /p"]}

    with pytest.raises(WrongState, match="in use"):
        box_store.remove(box, users)
    assert box_store.has(box)
    box_store.remove(box, dict)
    assert not box_store.has(box)


def test_a_store_that_can_not_be_written_is_one_clear_error_and_can_be_read(box_store: BoxStore) -> None:
    box = put(box_store, info())
    files.remove_tree(box_store.home.locks)
    box_store.home.locks.write_text("in the way")
    assert box_store.find("debian") == box
    with pytest.raises(VmctlError, match="the store of boxes cannot be written") as caught:
        box_store.remove(box, {})
    assert str(box_store.home.locks) in caught.value.details
    assert box_store.boxes() == [box]
