"""`vmctl box lock` and `up --locked`, on fake machines."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import Project, make_box
from vmctl import boxes, process
from vmctl.boxes.box import Box
from vmctl.boxes.box_store import BoxStore
from vmctl.layout import HomeLayout

ME = getpass.getuser()
"""Who the fake guests let in."""


def lock_of(project: Project) -> dict[str, dict[str, dict[str, str]]]:
    document = json.loads((project.root / "Vmfile.lock").read_text())
    boxes: dict[str, dict[str, dict[str, str]]] = document["boxes"]
    return boxes


def image(path: Path, size: str) -> Path:
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", path, size])
    return path


def test_a_locked_box_stays_the_same_when_a_newer_one_comes(project: Project, tmp_path: Path) -> None:
    project.vmfile("")
    assert project.vmctl("box", "lock", "--json").answer["changed"] is True
    assert project.vmctl("box", "lock", "--json").answer["changed"] is False
    ((_, entry),) = lock_of(project)["tiny"].items()
    project.vmctl(
        "box", "add", str(image(tmp_path / "new.qcow2", "2G")), "--name", "tiny", "--version", "99", "--user", ME
    )
    project.vmctl("up", "--locked")
    answer = project.vmctl("status", "--json").answer
    assert answer["machines"][0]["box"] == f"tiny@{entry['version']}"
    assert project.vmctl("up", "--locked", "--json").answer["changed"] is False
    assert project.vmctl("up", "--json").answer["changed"] is False
    project.vmctl("destroy", "--yes")
    project.vmctl("up")
    assert project.vmctl("status", "--json").answer["machines"][0]["box"] == "tiny@99"
    assert "made from another image of tiny" in project.vmctl("up", "--locked", status=3).err
    project.vmctl("destroy", "--yes")


def test_a_locked_box_is_fetched_from_its_source_or_refused(project: Project, tmp_path: Path) -> None:
    source = image(tmp_path / "mine.qcow2", "1G")
    project.vmctl("box", "add", str(source), "--name", "mine", "--version", "1", "--user", ME)
    (project.root / "Vmfile").write_text("box: mine\nprovider: fakeguests\nsynced_folders: []\n")
    project.vmctl("box", "lock")
    project.vmctl("box", "remove", "mine")
    project.vmctl("up", "--locked")
    project.vmctl("destroy", "--yes")
    other = image(tmp_path / "newer.qcow2", "2G")
    project.vmctl("box", "add", str(other), "--name", "mine", "--version", "2", "--user", ME)
    assert "nothing to remove" in project.vmctl("box", "prune").out, "what a colleague locked stays as well"
    project.vmctl("box", "remove", "mine", "--all")
    source.unlink()
    image(source, "3G")
    assert "the box mine is not what the lock says" in project.vmctl("up", "--locked", status=1).err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no"),
        ("{", "is damaged"),
        ('{"schema": 1, "boxes": {}}', "the box tiny is not in the lock"),
        ('{"schema": 1, "boxes": {"tiny": {"x86_64": {}}}}', "is damaged"),
        ('{"schema": 9, "boxes": {}}', "written by a newer vmctl"),
    ],
)
def test_no_usable_lock(project: Project, text: str | None, words: str) -> None:
    project.vmfile("")
    if text:
        (project.root / "Vmfile.lock").write_text(text)
    assert words in project.vmctl("up", "--locked", status=None).err
    assert project.vmctl("status", "--json").answer["machines"][0]["state"] == "not created"


def test_the_lock_of_another_architecture_is_kept(project: Project, private_home: Path) -> None:
    project.vmfile("")
    project.vmctl("box", "lock")
    (box,) = BoxStore(HomeLayout(private_home)).boxes("tiny")
    document = json.loads((project.root / "Vmfile.lock").read_text())
    document["boxes"]["tiny"]["s390x"] = {**document["boxes"]["tiny"][box.arch], "version": "7"}
    (project.root / "Vmfile.lock").write_text(json.dumps(document))
    project.vmctl("box", "lock")
    assert set(lock_of(project)["tiny"]) == {box.arch, "s390x"}


def test_a_box_that_is_removed_while_up_takes_it_is_told(
    project: Project, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure = boxes.ensure

    def and_gone(*args: Any, **more: Any) -> Box:
        box = ensure(*args, **more)
        BoxStore(HomeLayout(private_home)).remove(box, {})
        return box

    project.vmfile("")
    with monkeypatch.context() as patch:
        patch.setattr(boxes, "ensure", and_gone)
        assert "was removed while" in project.vmctl("up", status=1).err
    make_box(private_home)
    project.vmctl("up")
    assert "is in use" in project.vmctl("box", "remove", "tiny", status=None).err
    project.vmctl("destroy", "--yes")


def test_make_box_is_what_this_file_relies_on(private_home: Path) -> None:
    make_box(private_home)
    assert BoxStore(HomeLayout(private_home)).names() == ["tiny"]


class TestAliases:
    @pytest.fixture
    def gone(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
        """A project whose box no server has, and the living image in the store."""
        make_box(project.home, "debian-12", origin="recipe:debian-12", cloud_init=True)
        monkeypatch.setenv("VMCTL_BOX_SERVER", "http://127.0.0.1:1")
        self.say(project)
        return project

    @staticmethod
    def say(project: Project, text: str = "") -> None:
        (project.root / "Vmfile").write_text(f"box: generic/debian12\nprovider: fakeguests\nsynced_folders: []\n{text}")

    def test_without_one_nothing_takes_its_place(self, gone: Project) -> None:
        err = gone.vmctl("up", status=1).err
        assert "no server that could be asked knows the box generic/debian12" in err
        assert "write `box: debian-12` in the Vmfile" in err
        gone.vmctl("box", "lock", status=1)
        assert "box: generic/debian12\n" in gone.vmctl("plan").out

    def test_for_one_command_and_what_is_locked_then(self, gone: Project) -> None:
        shown = "debian-12 in place of generic/debian12 (--alias, its publisher's own image)"
        assert "box: debian-12 in place of generic/debian12" in gone.vmctl("plan", "--alias").out
        assert shown in gone.vmctl("up", "--alias").err
        gone.vmctl("destroy", "--yes")
        assert "in its place" in gone.vmctl("box", "lock", "--alias").out
        ((_, entry),) = lock_of(gone)["generic/debian12"].items()
        assert (entry["name"], entry["instead"]) == ("debian-12", "debian-12")
        assert json.loads((gone.root / "Vmfile.lock").read_text())["schema"] == 3
        assert "in place of generic/debian12 (Vmfile.lock)" in gone.vmctl("up", "--locked").err
        assert gone.vmctl("up", "--locked", "--json").answer["changed"] is False
        assert gone.vmctl("up", "--locked", "--alias", "--json").answer["changed"] is False
        assert gone.vmctl("box", "lock", "--alias", "--json").answer["changed"] is False

    @pytest.mark.parametrize("stated", ["alias: true\n", "box_aliases: {generic/debian12: debian-12}\n"])
    def test_in_the_vmfile(self, gone: Project, stated: str) -> None:
        self.say(gone, stated)
        assert "made from debian-12 in place of generic/debian12" in gone.vmctl("up").err
        gone.vmctl("box", "lock")
        assert gone.vmctl("up", "--locked", "--json").answer["changed"] is False
        origins = gone.vmctl("config", "--origins", "--json").answer["origins"]
        assert "in place of generic/debian12" in origins["machines.default.box"]
        self.say(gone)
        gone.vmctl("up", "--locked")

    def test_a_lock_of_before_has_what_took_its_place(self, gone: Project) -> None:
        """Such a lock calls the box by its own name."""
        self.say(gone, "alias: true\n")
        gone.vmctl("box", "lock")
        path = gone.root / "Vmfile.lock"
        document = json.loads(path.read_text())
        (entries,) = document["boxes"].values()
        for entry in entries.values():
            del entry["instead"]
        path.write_text(json.dumps({"schema": 2, "boxes": {"debian-12": entries}}))
        gone.vmctl("up", "--locked")
        self.say(gone)
        assert "generic/debian12 is not in the lock" in gone.vmctl("up", "--locked", status=2).err

    def test_added(self, gone: Project) -> None:
        ran = gone.vmctl("box", "add", "--alias", "generic/debian12", "--version", "1", status=2)
        assert "debian-12 in place of generic/debian12 (--alias, its publisher's own image)" in ran.err
        assert "debian-12 has no versions" in ran.err
        assert "no server" in gone.vmctl("box", "add", "--alias", "team/web", status=1).err
