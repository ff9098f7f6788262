"""Folders of boxes: what is published is read back by vmctl, from the disk and the web, at every moment."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.box_images import qcow2, raw, write
from tests.unit.box_stores import mine, theirs
from tests.unit.killed_child import killed_at
from vmctl.boxes import obtaining, updating
from vmctl.boxes.adding import add
from vmctl.boxes.box import Box
from vmctl.boxes.checksum import digest_of
from vmctl.boxes.publishing import publish
from vmctl.boxes.request import Order, Request
from vmctl.boxes.web import Access
from vmctl.errors import UsageError, VmctlError
from vmctl.layout import HomeLayout

__all__ = ["mine", "theirs"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "public" / "boxes"


def boxed(home: HomeLayout, version: str, *, name: str = "team/web", data: bytes | None = None, **stated: str) -> Box:
    home.root.mkdir(exist_ok=True)
    path = write(home.root / "image", data or qcow2(payload=version.encode() * 100))
    return add(Request(address=str(path), name=name, version=version, **stated), home)[0]  # type: ignore[arg-type]


def obtained(address: str, home: HomeLayout, **options: Any) -> Box:
    return obtaining.obtain(Order(address=address, **options), home)[0]


def read(catalogue: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(catalogue.read_text())
    return found


def test_a_folder_is_read_back(mine: HomeLayout, theirs: HomeLayout, folder: Path) -> None:
    box = boxed(mine, "1.0", user="me", firmware="uefi")
    done = publish(box, folder)
    assert (done.catalogue, done.changed) == (folder / "team" / "web.json", True)
    got = obtained(str(done.catalogue), theirs)
    assert (got.name, got.version, got.digest, got.user, got.firmware) == ("team/web", "1.0", box.digest, "me", "uefi")
    assert got.provenance["checksum"] == f"sha256:{digest_of(done.file)}"
    assert done.url == done.catalogue.as_uri()
    assert {oct(path.stat().st_mode & 0o777) for path in (done.catalogue, done.file)} == {"0o644"}
    assert (folder.stat().st_mode & 0o755, done.file.parent.stat().st_mode & 0o755) == (0o755, 0o755)


def test_publishing_again_changes_nothing(mine: HomeLayout, folder: Path) -> None:
    box = boxed(mine, "1.0")
    first = publish(box, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert publish(box, folder).changed is False
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert len([path for path in before if path.is_file()]) == 2
    assert first.changed


def test_versions_add_up_and_stay(mine: HomeLayout, theirs: HomeLayout, folder: Path) -> None:
    first = publish(boxed(mine, "1.2"), folder)
    content = first.file.read_bytes()
    old = obtained(str(first.catalogue), theirs)
    for version in ("1.10", "1.1"):
        publish(boxed(mine, version), folder)
    assert [one["version"] for one in read(first.catalogue)["versions"]] == ["1.10", "1.2", "1.1"]
    assert first.file.read_bytes() == content
    finding = updating.newer_than(old, Access())
    assert finding.newer == "1.10"
    assert updating.update(finding, Access(), theirs).version == "1.10"
    assert obtained(str(first.catalogue), theirs, version="<1.2").version == "1.1"


def test_another_content_of_a_version_is_refused(mine: HomeLayout, theirs: HomeLayout, folder: Path) -> None:
    done = publish(boxed(mine, "1.0"), folder)
    before = done.catalogue.read_bytes()
    with pytest.raises(UsageError, match="with different content"):
        publish(boxed(theirs, "1.0", data=qcow2(payload=b"other")), folder)
    with pytest.raises(UsageError, match="with different content"):
        publish(boxed(theirs, "1.0", name="x/y", user="other"), _renamed(folder, "x/y"))
    assert done.catalogue.read_bytes() == before


def _renamed(folder: Path, name: str) -> Path:
    """The folder, with the catalogue of team/web under another name too."""
    target = folder / f"{name}.json"
    target.parent.mkdir()
    target.write_text(json.dumps(read(folder / "team" / "web.json") | {"name": name}))
    return folder


def test_architectures_stand_beside_each_other(mine: HomeLayout, theirs: HomeLayout, folder: Path) -> None:
    for arch in ("x86_64", "aarch64"):
        done = publish(boxed(mine, "1.0", arch=arch, data=qcow2(payload=arch.encode())), folder)
    (version,) = read(done.catalogue)["versions"]
    known = [(one["architecture"], one["default_architecture"]) for one in version["providers"]]
    assert known == [("arm64", False), ("amd64", True)], "an old Vagrant takes the last"
    assert obtained(str(done.catalogue), theirs, arch="aarch64").arch == "aarch64"
    assert obtained(str(done.catalogue), theirs, arch="x86_64").arch == "x86_64"


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """Any web server: Python's."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    folder.mkdir(parents=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def test_on_the_web(server: str, mine: HomeLayout, theirs: HomeLayout, folder: Path) -> None:
    """By the catalogue's address, and by name where the folder is one of the servers; converted from raw."""
    local = publish(boxed(mine, "1.0", data=raw()), folder)
    assert local.url.startswith("file://")
    moved = publish(boxed(mine, "1.0", data=raw()), folder, url=f"{server}/")
    assert (moved.url, moved.changed) == (f"{server}/team/web.json", True)
    publish(boxed(mine, "1.1"), folder)  # where the folder is need not be said again
    assert all(one["providers"][0]["url"].startswith(server) for one in read(moved.catalogue)["versions"])
    assert obtained(moved.url, theirs, version="1.0").virtual_size == len(raw())
    named = obtained("team/web", theirs, access=Access(servers=(server,)), version="1.1")
    assert (named.name, named.origin) == ("team/web", "team/web")


def test_at_every_moment_the_catalogue_is_true(mine: HomeLayout, folder: Path) -> None:
    """Killed at any step: what the catalogue names is there, with the content that it says; the next one finishes."""
    first = publish(boxed(mine, "1.0"), folder)
    box = boxed(mine, "1.1")
    step = 0
    while True:
        step += 1
        status = killed_at(step, lambda: publish(box, folder), ("fsync", "replace", "mkdir", "fchmod", "unlink"))
        for version in read(first.catalogue)["versions"]:
            (entry,) = version["providers"]
            assert digest_of(Path(entry["url"].removeprefix("file://"))) == entry["checksum"]
        if status == 0:
            break
    assert step > 3
    assert [one["version"] for one in read(first.catalogue)["versions"]] == ["1.1", "1.0"]
    assert not list(folder.rglob(".*"))


def test_two_at_once_both_appear(mine: HomeLayout, folder: Path) -> None:
    boxes = [boxed(mine, f"1.{number}") for number in range(4)]
    threads = [threading.Thread(target=publish, args=(box, folder)) for box in boxes]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(read(folder / "team" / "web.json")["versions"]) == 4


def test_what_others_wrote_in_the_catalogue_stays(mine: HomeLayout, folder: Path) -> None:
    theirs = {"name": "virtualbox", "url": "https://elsewhere.example/x.box", "note": 1}
    document = {"name": "team/web", "tag": "x", "versions": [{"version": "1.0", "providers": [theirs], "status": "y"}]}
    (folder / "team").mkdir(parents=True)
    (folder / "team" / "web.json").write_text(json.dumps(document))
    found = read(publish(boxed(mine, "1.0"), folder).catalogue)
    assert (found["tag"], found["versions"][0]["status"]) == ("x", "y")
    assert found["versions"][0]["providers"][0] == theirs


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"name": "other", "versions": []}', '{"name": "team/web"}', '{"name": "team/web", "versions": [3]}',
     '{"name": "team/web", "versions": [], "vmctl": 3}', '{"name": "team/web", "versions": [{"providers": []}]}',
     '{"name": "team/web", "versions": [{"version": "x y", "providers": []}]}',
     '{"name": "team/web", "versions": [{"version": "1", "providers": [{"name": "libvirt"}]}]}'],
)  # fmt: skip
def test_a_catalogue_that_is_none_is_left_alone(text: str, mine: HomeLayout, folder: Path) -> None:
    (folder / "team").mkdir(parents=True)
    write(folder / "team" / "web.json", text.encode())
    with pytest.raises(VmctlError):
        publish(boxed(mine, "1.0"), folder)
    assert (folder / "team" / "web.json").read_text() == text


def test_an_address_that_is_none(mine: HomeLayout, folder: Path) -> None:
    with pytest.raises(UsageError, match="invalid URL"):
        publish(boxed(mine, "1.0"), folder, url="boxes.example.org")
    assert not folder.exists()


def test_no_name_is_in_the_way_of_another(mine: HomeLayout, theirs: HomeLayout, folder: Path) -> None:
    names = ("team/web", "team/web.json", "team/web.boxes", "team", "team/1.0", "team.json")
    for name in names:
        publish(boxed(mine, "1.0", name=name, data=qcow2(payload=name.encode())), folder)
    for name in names:
        assert obtained(str(folder / f"{name}.json"), theirs).name == name
