"""`vmctl box add` by name, `list -i`, `outdated`, `update`, `prune`, `du` and `repackage`, on a real web server."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import Project
from tests.unit.box_web import Web, web_server
from vmctl import process
from vmctl.boxes.store_upkeep import STALE
from vmctl.spec import GIB

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as one:
        yield one


@pytest.fixture
def shop(tmp_path: Path, private_home: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A directory, an empty store and a catalogue server."""
    monkeypatch.setenv("VMCTL_BOX_SERVER", web.url)
    monkeypatch.setattr("vmctl.boxes.box_names.host_architecture", lambda: "x86_64")
    return Project(tmp_path, private_home)


def image(tmp_path: Path, text: str) -> Path:
    path = tmp_path / f"{text}.qcow2"
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"])
    process.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {ord(text[0])} 0 64k", path])
    return path


def publish(web: Web, tmp_path: Path, *versions: str) -> None:
    """Have the server offer these versions of org/box, each another image."""
    entries = []
    for version in versions:
        data = image(tmp_path, version).read_bytes()
        url = web.put(f"/{version}.qcow2", data)
        checksum = {"checksum_type": "sha256", "checksum": hashlib.sha256(data).hexdigest()}
        entries.append({"version": version, "providers": [{"name": "libvirt", "url": url, **checksum}]})
    web.put("/org/box", json.dumps({"name": "org/box", "versions": entries}).encode())


def test_from_add_to_prune(shop: Project, web: Web, tmp_path: Path) -> None:
    publish(web, tmp_path, "1.0")
    assert "added org/box 1.0 (x86_64)" in shop.vmctl("box", "add", "org/box").out
    assert shop.vmctl("box", "add", "org/box", "--json").answer["changed"] is False
    assert shop.vmctl("box", "outdated").out.splitlines() == ["BOX                   NEWER", "org/box 1.0 (x86_64)  -"]
    publish(web, tmp_path, "1.0", "2.0")
    assert shop.vmctl("box", "outdated", "--json", status=1).answer["boxes"][0]["newer"] == "2.0"
    assert "added org/box 2.0 (x86_64)" in shop.vmctl("box", "update", "org/box").out
    assert "nothing newer" in shop.vmctl("box", "update").out
    assert "would remove org/box 1.0 (x86_64)" in shop.vmctl("box", "prune", "--dry-run").out
    assert len(shop.vmctl("box", "list", "--json").answer["boxes"]) == 2
    answer = shop.vmctl("box", "prune", "--json").answer
    assert answer["removed"] == [{"name": "org/box", "version": "1.0", "arch": "x86_64"}]
    assert answer["bytes"] > 0
    assert "nothing to remove" in shop.vmctl("box", "prune").out


def test_what_is_locked_is_not_pruned(shop: Project, web: Web, tmp_path: Path) -> None:
    """Neither of a project that has never been up, nor once its directory has another lock."""
    publish(web, tmp_path, "1.0")
    shop.vmctl("box", "add", "org/box")
    (shop.root / "Vmfile").write_text("box: org/box\n")
    shop.vmctl("box", "lock")
    publish(web, tmp_path, "1.0", "2.0")
    shop.vmctl("box", "update", "org/box")
    assert "nothing to remove" in shop.vmctl("box", "prune").out
    lock = shop.root / "Vmfile.lock"
    for content in ("{}", "[" * 5000, '{"boxes": {"x": 3}}', "x" * 5 * 1024**2):
        text = lock.read_text()
        lock.write_text(content)
        assert "would remove org/box 1.0" in shop.vmctl("box", "prune", "--dry-run").out
        lock.write_text(text)
    assert "nothing to remove" in shop.vmctl("box", "prune").out
    shop.vmctl("box", "lock")
    assert "removed org/box 1.0" in shop.vmctl("box", "prune").out


def test_a_lock_or_a_box_without_end_is_damaged(shop: Project, web: Web, tmp_path: Path) -> None:
    publish(web, tmp_path, "1.0")
    shop.vmctl("box", "add", "org/box")
    (shop.root / "Vmfile").write_text("box: org/box\n")
    (shop.root / "Vmfile.lock").write_bytes(b" " * (4 * 1024**2 + 1))
    assert "longer than 4194304 bytes" in shop.vmctl("up", "--locked", status=1).err
    (metadata,) = shop.home.glob("boxes/*/*/*/box.json")
    metadata.write_bytes(b" " * (4 * 1024**2 + 1))
    assert "longer than 4194304 bytes" in shop.vmctl("box", "verify", status=1).out


def test_an_update_keeps_what_the_user_said(shop: Project, web: Web, tmp_path: Path) -> None:
    publish(web, tmp_path, "1.0")
    shop.vmctl("box", "add", "org/box", "--user", "me", "--firmware", "uefi", "--no-cloud-init")
    publish(web, tmp_path, "1.0", "2.0")
    shop.vmctl("box", "update")
    newest, _ = shop.vmctl("box", "list", "--json").answer["boxes"]
    stated = ("version", "user", "firmware", "cloud_init")
    assert [newest[key] for key in stated] == ["2.0", "me", "uefi", False]


def test_a_source_that_can_not_be_asked_is_an_error(shop: Project, web: Web, tmp_path: Path) -> None:
    publish(web, tmp_path, "1.0")
    shop.vmctl("box", "add", "org/box")
    web.pages.clear()
    assert "no server knows the box org/box" in shop.vmctl("box", "outdated", status=1).err


def test_a_plain_file_has_no_versions(shop: Project, tmp_path: Path) -> None:
    shop.vmctl("box", "add", str(image(tmp_path, "plain")), "--name", "mine")
    assert "? (its source tells no versions)" in shop.vmctl("box", "outdated").out
    assert "there is no box other" in shop.vmctl("box", "outdated", "other", status=1).err


def test_info_and_disk_usage(shop: Project, web: Web, tmp_path: Path) -> None:
    publish(web, tmp_path, "1.0")
    shop.vmctl("box", "add", "org/box")
    shown = shop.vmctl("box", "list", "-i").out
    assert f"  from: {web.url}/1.0.qcow2" in shown
    assert "  origin: org/box" in shown
    answer = shop.vmctl("box", "du", "--json").answer
    assert answer["bytes"] == answer["boxes"][0]["bytes"] + answer["downloads"] > 0
    assert "ON DISK" in shop.vmctl("box", "du").out


def test_downloads_that_were_given_up(shop: Project, private_home: Path) -> None:
    (private_home / "downloads").mkdir()
    old, young = (private_home / "downloads" / name for name in ("old.part", "young.part"))
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (time.time() - STALE - 60,) * 2)
    shop.vmctl("box", "prune")
    assert (old.exists(), young.exists()) == (False, True)


def test_repackage_and_add_again(shop: Project, tmp_path: Path) -> None:
    path = str(image(tmp_path, "plain"))
    shop.vmctl("box", "add", path, "--name", "org/mine", "--version", "1.5", "--user", "me")
    shop.vmctl("box", "repackage", "org/mine")
    with tarfile.open(tmp_path / "org-mine-1.5.box") as packed:
        assert packed.getnames() == ["metadata.json", "Vagrantfile", "info.json", "box.img"]
        metadata = json.load(packed.extractfile("metadata.json"))  # type: ignore[arg-type]  # it is a file
    assert metadata == {"provider": "libvirt", "format": "qcow2", "virtual_size": 1, "architecture": "amd64"}
    assert "exists already" in shop.vmctl("box", "repackage", "org/mine", status=2).err
    again = shop.vmctl("box", "add", "org-mine-1.5.box", "--json").answer["box"]
    assert (again["user"], again["virtual_size"], again["arch"]) == ("me", GIB, "x86_64")
    assert again["digest"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_bad_addresses(shop: Project) -> None:
    assert "did you mean 'debian-12'" in shop.vmctl("box", "add", "debain-12", status=2).err
    assert "there is no file" in shop.vmctl("box", "add", "./absent.box", status=2).err
    assert "there is no file" in shop.vmctl("box", "add", "absent.box", status=2).err
    assert "no server knows the box org/absent" in shop.vmctl("box", "add", "org/absent", status=1).err
