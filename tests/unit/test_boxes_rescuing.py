"""Boxes out of Vagrant's own directory, out of the store, and from a server; into a folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import Project
from tests.unit.box_archives import tarred
from tests.unit.box_images import qcow2, write
from vmctl.boxes import rescue_sources
from vmctl.boxes.adding import add
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.request import Request
from vmctl.errors import UsageError
from vmctl.layout import HomeLayout

METADATA = {"provider": "libvirt", "format": "qcow2", "virtual_size": 1}
VAGRANTFILE = b'Vagrant.configure("2") do |config|\n  config.ssh.username = "me"\nend\n'


@pytest.fixture
def shop(tmp_path: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A directory, an empty store and an empty home of Vagrant's; no server answers."""
    (tmp_path / "vagrant" / "boxes").mkdir(parents=True)
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "vagrant"))
    monkeypatch.setenv("VMCTL_BOX_SERVER", "http://127.0.0.1:1")
    return Project(tmp_path, private_home)


def members(text: str, **changes: Any) -> dict[str, bytes]:
    """A box of Vagrant's, by its files."""
    data = qcow2(payload=text.encode() * 10)
    return {"metadata.json": json.dumps(METADATA | changes).encode(), "box.img": data, "Vagrantfile": VAGRANTFILE}


def unpacked(tmp_path: Path, place: str, text: str, **changes: Any) -> Path:
    """A box as Vagrant unpacks it."""
    directory = tmp_path / "vagrant" / "boxes" / place
    directory.mkdir(parents=True)
    for name, data in members(text, **changes).items():
        write(directory / name, data)
    return directory


def rescued(shop: Project, *words: str, status: int = 0) -> dict[str, Any]:
    return shop.vmctl("box", "rescue", *words, "--json", status=status).answer


def test_vagrants_boxes_become_boxes_without_network(shop: Project, tmp_path: Path) -> None:
    unpacked(tmp_path, "org-VAGRANTSLASH-web/1.2/libvirt", "old")
    unpacked(tmp_path, "org-VAGRANTSLASH-web/1.10/amd64/libvirt", "new")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "vagrant").rglob("*")}
    answer = rescued(shop, "--vagrant", "--to", "public")
    fates = [(one["what"], one["rescued"], one["changed"]) for one in answer["boxes"]]
    assert fates == [("org/web 1.2 (libvirt)", True, True), ("org/web 1.10 (libvirt)", True, True)]
    catalogue = json.loads((tmp_path / "public" / "org" / "web.json").read_text())
    assert [one["version"] for one in catalogue["versions"]] == ["1.10", "1.2"]
    box = BoxStore(HomeLayout(shop.home)).find("org/web")
    assert box is not None
    assert (box.version, box.user, box.digest) == ("1.10", "me", hashlib.sha256(members("new")["box.img"]).hexdigest())
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "vagrant").rglob("*")} == kept
    assert rescued(shop, "--vagrant", "--to", "public")["changed"] is False


def test_the_same_box_whether_packed_or_unpacked(shop: Project, tmp_path: Path) -> None:
    home = HomeLayout(shop.home)
    file = write(tmp_path / "web.box", tarred(members("x")))
    packed, _ = add(Request(address=str(file), name="packed", version="1"), home)
    place = unpacked(tmp_path, "web/1/libvirt", "x")
    loose, _ = add(Request(address=str(place), name="loose", version="1"), home)
    same = ("images", "user", "firmware", "seeding", "first_key", "defaults", "settings")
    assert [getattr(packed, one) for one in same] == [getattr(loose, one) for one in same]


def test_one_that_is_lost_does_not_hold_up_the_rest(shop: Project, tmp_path: Path) -> None:
    (unpacked(tmp_path, "a/1/libvirt", "a") / "box.img").write_bytes(b"no image")
    (unpacked(tmp_path, "b/1/libvirt", "b") / "link").symlink_to("/etc/passwd")
    unpacked(tmp_path, "c/1/libvirt", "c")
    unpacked(tmp_path, "d/1/hyperv", "d", provider="hyperv")
    ran = shop.vmctl("box", "rescue", "--vagrant", status=1)
    assert [line.split("  ")[0] for line in ran.out.splitlines() if "LOST" in line] == [
        "d 1 (hyperv)", "a 1 (libvirt)", "b 1 (libvirt)",
    ]  # fmt: skip
    assert "vmctl cannot read boxes for hyperv" in ran.err
    assert "link, which is neither a file nor a directory" in ran.err
    assert BoxStore(HomeLayout(shop.home)).names() == ["c"]


def test_of_two_providers_libvirts_is_taken(shop: Project, tmp_path: Path) -> None:
    unpacked(tmp_path, "a/1/libvirt", "x")
    unpacked(tmp_path, "a/1/virtualbox", "x", provider="virtualbox")
    found = rescued(shop, "--vagrant")["boxes"]
    assert [(one["what"], one["rescued"], one["passed_over"]) for one in found] == [
        ("a 1 (virtualbox)", False, True), ("a 1 (libvirt)", True, False),
    ]  # fmt: skip


def test_the_store_the_project_and_names(shop: Project, tmp_path: Path) -> None:
    for version in ("1.0", "1.1"):
        image = write(tmp_path / f"{version}.img", qcow2(payload=version.encode()))
        shop.vmctl("box", "add", str(image), "--name", "team/web", "--version", version)
    other = write(tmp_path / "other.img", qcow2(payload=b"other"))
    (tmp_path / "Vmfile").write_text("box: ./other.img\n")
    assert rescued(shop, "--project")["boxes"][0]["what"] == str(other)
    assert [one["version"] for one in rescued(shop)["boxes"]] == ["1.0", "1.1"], "a label is not a name"
    answer = rescued(shop, "team/web", "org/gone", "--to", "public", "--url", "https://boxes.example", status=1)
    assert [one["place"] for one in answer["boxes"]] == ["https://boxes.example/team/web.json"] * 2 + [None]
    assert answer["lost"] == 1


def test_a_damaged_box_is_not_passed_on(shop: Project, tmp_path: Path) -> None:
    image = write(tmp_path / "x.img", qcow2())
    path = Path(shop.vmctl("box", "add", str(image), "--name", "web", "--json").answer["box"]["path"])
    path.chmod(0o644)
    path.write_bytes(qcow2(payload=b"changed"))
    assert "its content changed" in rescued(shop, "--to", "public", status=1)["boxes"][0]["problem"]
    assert not (tmp_path / "public").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--to", "oci://r.example/x:1"),
        ("--to", "oci://R/"),
        ("--url", "https://x"),
        ("--to", "oci://r/x", "--url", "https://x"),
    ],
)
def test_what_cannot_be_a_target(words: tuple[str, ...], shop: Project) -> None:
    assert shop.vmctl("box", "rescue", *words, status=2).err


def test_without_vagrant(shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="Vagrant has no boxes in"):
        rescue_sources.vagrant_directory()
    assert shop.vmctl("box", "rescue", "--vagrant", status=2).err


def test_a_directory_that_holds_no_box_is_none(shop: Project, tmp_path: Path) -> None:
    assert "is not a file" in shop.vmctl("box", "add", str(tmp_path), status=2).err
    place = unpacked(tmp_path, "a/1/libvirt", "x")
    assert "has no checksum" in shop.vmctl("box", "add", str(place), "--checksum", "0" * 64, status=2).err
