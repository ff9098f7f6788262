"""`vmctl box add`, `list`, `remove`, `verify` and `build`, in process."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from tests.cli.harness import Project
from tests.unit.box_images import qcow2, write
from vmctl import process
from vmctl.boxes.box_store import BoxStore
from vmctl.layout import HomeLayout
from vmctl.process import ProgramMissing
from vmctl.store import project_identity, records


@pytest.fixture
def shop(tmp_path: Path, private_home: Path) -> Project:
    """A directory and an empty store."""
    return Project(tmp_path, private_home)


@pytest.fixture
def jammy(tmp_path: Path) -> Path:
    return write(tmp_path / "jammy.qcow2", qcow2())


def use(shop: Project, digest: str) -> None:
    """Record a machine that needs a box."""
    home = HomeLayout(shop.home)
    place = project_identity.ensure(shop.root, home)
    used = records.BoxUsed(name="jammy", version="1.0", digest=digest, user="vmctl")
    record = records.Record(
        name="x-web", project=place.id, machine="web", provider="fake", box=used, version="0",
        user="vmctl",
    )  # fmt: skip
    records.save(place.layout(home).machine("web"), record)


def test_add_list_remove(shop: Project, jammy: Path) -> None:
    assert "no boxes yet" in shop.vmctl("box", "list").out
    checksum = hashlib.sha256(jammy.read_bytes()).hexdigest()
    added = shop.vmctl("box", "add", "./jammy.qcow2", "--version", "1.0", "--checksum", checksum, "--json").answer
    assert (added["changed"], added["box"]["name"], added["box"]["digest"]) == (True, "jammy", checksum)
    assert Path(added["box"]["path"]).read_bytes() == jammy.read_bytes()
    assert shop.vmctl("box", "add", str(jammy), "--json").answer["changed"] is False
    row = shop.vmctl("box", "list").out.splitlines()[1].split()
    assert row[:3] == ["jammy", "1.0", "x86_64"]
    assert row[-1] == "-"
    assert "removed jammy 1.0" in shop.vmctl("box", "remove", "jammy").out
    assert shop.vmctl("box", "list", "--json").answer == {"boxes": []}
    assert "there is no box jammy in the store" in shop.vmctl("box", "remove", "jammy", status=1).err


def test_a_wrong_checksum_adds_nothing(shop: Project, jammy: Path) -> None:
    ran = shop.vmctl("box", "add", str(jammy), "--checksum", f"sha256:{'0' * 64}", status=1)
    assert "does not have the checksum" in ran.err
    shop.vmctl("box", "add", str(jammy), "--checksum", "12", status=2)
    assert shop.vmctl("box", "list", "--json").answer == {"boxes": []}


def test_a_box_in_use_is_not_removed(shop: Project, jammy: Path) -> None:
    box = shop.vmctl("box", "add", str(jammy), "--json").answer["box"]
    use(shop, box["digest"])
    ran = shop.vmctl("box", "remove", "jammy", status=3)
    assert f"by machine web of {shop.root}" in ran.err
    assert shop.vmctl("box", "list", "--json").answer["boxes"][0]["used_by"] == [f"machine web of {shop.root}"]


def test_several_versions_are_removed_only_when_that_is_said(shop: Project, tmp_path: Path) -> None:
    for version in ("1.0", "1.1", "2.0"):
        image = write(tmp_path / f"{version}.qcow2", qcow2(payload=version.encode()))
        shop.vmctl("box", "add", str(image), "--name", "org/jammy", "--version", version)
    assert "means several boxes" in shop.vmctl("box", "remove", "org/jammy@~>1.0", status=2).err
    shop.vmctl("box", "remove", "org/jammy@~>1.0", "--all")
    assert [box.version for box in BoxStore(HomeLayout(shop.home)).boxes()] == ["2.0"]


def test_verify_finds_what_changed(shop: Project, jammy: Path) -> None:
    box = shop.vmctl("box", "add", str(jammy), "--json").answer["box"]
    assert "sound" in shop.vmctl("box", "verify").out
    path = Path(box["path"])
    path.chmod(0o644)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert "its content changed" in shop.vmctl("box", "verify", "jammy", status=1).out
    path.unlink()
    assert "cannot be read" in shop.vmctl("box", "verify", status=1).out


def test_build_names_all_that_is_missing(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(program: str, *, package: str = "") -> str:
        raise ProgramMissing(program)

    monkeypatch.setattr(process, "find", nothing)
    ran = shop.vmctl("box", "build", "debian-12", status=1)
    assert "sudo apt-get install" in ran.err
    assert {"mmdebstrap", "qemu-utils", "fdisk", "e2fsprogs"} <= set(ran.err.split())
    assert "there is no recipe for a box 'x'" in shop.vmctl("box", "build", "x", status=1).err


def test_people_read_when_a_box_came(shop: Project, jammy: Path) -> None:
    shop.vmctl("box", "add", "jammy.qcow2")
    assert f"  added: {time.strftime('%Y-')}" in shop.vmctl("box", "list", "-i").out


def test_what_is_said_of_a_box_that_is_there_counts(shop: Project, jammy: Path) -> None:
    first = shop.vmctl("box", "add", "jammy.qcow2", "--json").answer["box"]
    other = shop.vmctl("box", "add", "jammy.qcow2", "--arch", "arm64", "--json").answer
    assert (other["changed"], other["box"]["arch"]) == (True, "aarch64")
    assert shop.vmctl("box", "add", "jammy.qcow2", "--arch", "amd64", "--json").answer["box"] == first


@pytest.mark.parametrize(
    ("words", "stated"),
    [
        (["jammy.qcow2", "--arch", "../../x"], "invalid architecture '../../x'"),
        (["jammy.qcow2", "--user", 'a"; system("x'], "invalid user name"),
        (["."], "is not a file"),
        (["./nothing.qcow2"], "there is no file"),
        (["\udcff.qcow2"], r"\xff.qcow2 has a name that is not UTF-8"),
    ],
)
def test_what_can_not_be_a_box_is_refused(shop: Project, jammy: Path, words: list[str], stated: str) -> None:
    assert stated in shop.vmctl("box", "add", *words, status=2).err
    assert not (shop.home / "boxes").exists()


def test_boxes_of_one_name_are_told_apart_by_their_source(shop: Project, tmp_path: Path) -> None:
    places = [tmp_path / name / "disk.qcow2" for name in ("one", "other")]
    for place in places:
        place.parent.mkdir()
        shop.vmctl("box", "add", str(write(place, qcow2(payload=place.parent.name.encode()))), "--version", "1")
    listed = shop.vmctl("box", "list").out
    assert all(str(place) in listed for place in places)
    printed = shop.vmctl("box", "remove", "disk", status=2).err
    assert "disk means several boxes" in printed
    assert f"--source {places[1]}" in printed
    target = tmp_path / "x.box"
    assert "--source" in shop.vmctl("box", "repackage", "disk", "--output", str(target), status=2).err
    for words in (["verify", "disk"], ["remove", "disk@1"]):
        answer = shop.vmctl("box", *words, "--source", str(places[1]), "--json").answer
        (only,) = answer["boxes" if words[0] == "verify" else "removed"]
        assert (only["origin"], only["named"]) == (str(places[1]), True)
    (left,) = shop.vmctl("box", "list", "--json").answer["boxes"]
    assert left["origin"] == str(places[0])
    absent = shop.vmctl("box", "remove", "disk", "--source", "/nowhere", status=1).err
    assert "there is no box disk from /nowhere" in absent
    assert "there is no box" in shop.vmctl("box", "outdated", "--source", "/nowhere", status=1).err


def test_a_box_that_a_vmfile_names_by_its_address_is_listed_by_a_label(shop: Project, jammy: Path) -> None:
    (shop.root / "Vmfile").write_text(f"box: {jammy}\n")
    shop.vmctl("box", "lock")
    assert "(jammy)" in shop.vmctl("box", "list").out
    assert "a label only" in shop.vmctl("box", "list", "-i").out
    (shop.root / "Vmfile").write_text("box: jammy\n")
    assert "there is no box 'jammy'" in shop.vmctl("box", "lock", status=1).err
    shop.vmctl("box", "remove", "jammy")
    assert shop.vmctl("box", "list", "--json").answer["boxes"] == []


def test_a_damaged_box_hides_no_other_and_verify_tells(shop: Project, jammy: Path) -> None:
    shop.vmctl("box", "add", str(jammy))
    answer = shop.vmctl("box", "add", str(jammy), "--name", "broken", "--json").answer
    directory = Path(answer["box"]["path"]).parent
    (directory / "box.json").write_bytes(b"")
    ran = shop.vmctl("box", "list")
    assert "jammy" in ran.out
    assert str(directory) in ran.err
    assert str(directory) in shop.vmctl("box", "verify", status=1).out
    assert "sound" in shop.vmctl("box", "verify", "jammy").out
    shop.vmctl("box", "add", str(jammy), "--name", "broken")
    assert "sound" in shop.vmctl("box", "verify", "broken", status=1).out
