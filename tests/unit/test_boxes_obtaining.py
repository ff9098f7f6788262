"""Every kind of address, from a real web server into a real store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.box_web import Web, web_server
from tests.unit.test_boxes_contents import disk, libvirt_box
from vmctl.boxes import ensure, obtaining
from vmctl.boxes.box import Box
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.checksum import ChecksumMismatch
from vmctl.boxes.download import Patience
from vmctl.boxes.request import Order
from vmctl.boxes.web import Access
from vmctl.errors import UsageError, VmctlError
from vmctl.events import Event, Warned
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef

QUICK = Patience(stall=5, tries=1, first_pause=0.01)


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as one:
        yield one


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "home")


def catalogue(url: str, data: bytes, *versions: str, name: str = "org/box", kind: str = "sha256") -> bytes:
    """All versions are the same file."""
    provider = {
        "name": "libvirt", "url": url, "checksum_type": kind, "checksum": hashlib.new(kind, data).hexdigest(),
        "architecture": "amd64", "default_architecture": True,
    }  # fmt: skip
    entries = [{"version": version, "providers": [provider]} for version in versions]
    return json.dumps({"name": name, "versions": entries}).encode()


def obtain(home: HomeLayout, address: str, access: Access | None = None, **more: Any) -> tuple[Box, bool, list[str]]:
    events: list[Event] = []
    order = Order(address=address, access=access or Access(), **more)
    box, new = obtaining.obtain(order, home, report=events.append, patience=QUICK)
    return box, new, [event.text for event in events if isinstance(event, Warned)]


def test_org_and_name_on_a_catalogue_server(web: Web, home: HomeLayout, tmp_path: Path) -> None:
    data = libvirt_box(tmp_path).read_bytes()
    file = web.put("/files/a.box", data)
    web.put("/api/v2/vagrant/org/box", catalogue(file, data, "1.0.0", "1.1.0"))
    box, new, _ = obtain(home, "org/box", Access(servers=(web.url,)), arch="x86_64")
    assert (box.name, box.version, box.arch, new) == ("org/box", "1.1.0", "x86_64", True)
    assert (box.provenance["origin"], box.provenance["checksum"][:7]) == ("org/box", "sha256:")
    box, new, _ = obtain(home, "org/box", Access(servers=(web.url,)), version="~>1.0", arch="x86_64")
    assert (box.version, new) == ("1.1.0", False)
    assert [path for path, _ in web.asked].count("/files/a.box") == 1


def test_a_server_that_answers_with_another_boxs_catalogue(web: Web, home: HomeLayout, tmp_path: Path) -> None:
    data = libvirt_box(tmp_path).read_bytes()
    file = web.put("/files/a.box", data)
    for name in ("debian-12", "org/other", "an odd name"):
        web.put("/api/v2/vagrant/org/box", catalogue(file, data, "1.0.0", name=name))
        with pytest.raises(UsageError, match="the catalogue of org/box is that of another box") as caught:
            obtain(home, "org/box", Access(servers=(web.url,)), arch="x86_64")
        assert "--name" in caught.value.hint
    web.put("/api/v2/vagrant/org/box", catalogue(file, data, "1.0.0", name="Org/Box"))
    assert obtain(home, "org/box", Access(servers=(web.url,)), arch="x86_64")[0].name == "org/box"


def test_servers_are_asked_in_order(web: Web, home: HomeLayout, tmp_path: Path) -> None:
    data = libvirt_box(tmp_path).read_bytes()
    web.put("/org/box", catalogue(web.put("/a.box", data), data, "2.0"))
    access = Access(servers=("http://127.0.0.1:9", web.url))
    assert obtain(home, "org/box", access, arch="x86_64")[0].version == "2.0"
    with pytest.raises(VmctlError, match="no server that could be asked knows the box org/other"):
        obtain(home, "org/other", access)


@pytest.mark.parametrize("place", ["url", "typed url", "path"])
def test_catalogues_elsewhere(web: Web, home: HomeLayout, tmp_path: Path, place: str) -> None:
    data = libvirt_box(tmp_path).read_bytes()
    (tmp_path / "cat.json").write_bytes(catalogue("my.box", data, "3.0"))
    web.put("/my.box", data)
    document = (tmp_path / "cat.json").read_bytes()
    addresses = {
        "url": web.put("/cat.json", document),
        "typed url": web.put("/cat", document, kind="application/json; charset=utf-8"),
        "path": str(tmp_path / "cat.json"),
    }
    box, _, warned = obtain(home, addresses[place], arch="x86_64")
    assert (box.name, box.version, box.provenance["origin"], warned) == ("org/box", "3.0", addresses[place], warned)


def test_a_wrong_checksum_in_the_catalogue(web: Web, home: HomeLayout, tmp_path: Path) -> None:
    file = web.put("/a.box", libvirt_box(tmp_path).read_bytes())
    with pytest.raises(ChecksumMismatch):
        obtain(home, web.put("/cat.json", catalogue(file, b"other", "1.0")), arch="x86_64")
    assert BoxStore(home).boxes() == []


def test_a_weak_checksum_is_told_and_checked(web: Web, home: HomeLayout, tmp_path: Path) -> None:
    data = libvirt_box(tmp_path).read_bytes()
    file = web.put("/a.box", data)
    _, _, warned = obtain(home, web.put("/cat.json", catalogue(file, data, "1.0", kind="md5")), arch="x86_64")
    assert any("only a md5 checksum" in text for text in warned)
    with pytest.raises(ChecksumMismatch):
        obtain(home, web.put("/two.json", catalogue(file, b"x", "2.0", kind="sha1")), arch="x86_64")


def test_a_built_in_box_and_its_mirrors(
    web: Web, home: HomeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = disk(tmp_path / "d.qcow2", "qcow2").read_bytes()
    web.put("/d.img", data)
    web.put("/broken/SHA256SUMS", f"{hashlib.sha256(data).hexdigest()}  d.img\n".encode())
    table = {
        "urls": [f"{web.url}/broken/d.img", f"{web.url}/d.img"], "checksums": "SHA256SUMS", "user": "me",
        "arches": {"x86_64": "amd64"}, "firmware": "uefi",
    }  # fmt: skip
    monkeypatch.setattr("vmctl.boxes.builtin.entries", lambda: {"small": table})
    monkeypatch.setattr("vmctl.boxes.box_names.host_architecture", lambda: "x86_64")
    box, _, warned = obtain(home, "small")
    assert (box.name, box.user, box.firmware, box.arch) == ("small", "me", "uefi", "x86_64")
    assert any("trying the next source" in text for text in warned)
    again, new, _ = obtain(home, "small")
    assert (again.version, new) == (box.version, False)
    monkeypatch.setenv("VMCTL_BOX_SERVER", web.url)
    assert ensure(BoxRef(address="small"), HomeLayout(tmp_path / "second")).name == "small"


def test_a_vmfile_that_names_a_box_of_a_server(
    web: Web, home: HomeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = libvirt_box(tmp_path).read_bytes()
    web.put("/org/box", catalogue(web.put("/a.box", data), data, "1.0", "2.0"))
    monkeypatch.setenv("VMCTL_BOX_SERVER", web.url)
    monkeypatch.setattr("vmctl.boxes.box_names.host_architecture", lambda: "x86_64")
    assert ensure(BoxRef(address="org/box", constraint="<2"), home).version == "1.0"


def test_a_locked_image_is_never_replaced_by_another(web: Web, home: HomeLayout) -> None:
    with pytest.raises(VmctlError, match="the locked image of box org/box is not in the store"):
        ensure(BoxRef(address="org/box", digest="f" * 64), home)
    assert web.asked == []


def test_names_that_nobody_knows(home: HomeLayout) -> None:
    with pytest.raises(UsageError, match=r"there is no box 'ubunto-24\.04', did you mean 'ubuntu-24\.04'"):
        obtain(home, "ubunto-24.04")


@pytest.mark.parametrize(
    ("status", "words"), [(401, "~/.netrc"), (403, "VMCTL_BOX_HEADER"), (404, "check the address")]
)
def test_what_to_do_when_the_server_says_no(web: Web, home: HomeLayout, status: int, words: str) -> None:
    with pytest.raises(VmctlError, match=f"the server says {status}") as caught:
        obtain(home, web.put("/x.box", b"", status))
    assert words in caught.value.hint
    assert BoxStore(home).boxes() == []


def test_a_header_opens_the_door_and_stays_at_home(web: Web, home: HomeLayout, tmp_path: Path) -> None:
    with web_server() as storage:
        target = storage.put("/real.qcow2", disk(tmp_path / "d.qcow2", "qcow2").read_bytes())
        obtain(home, web.redirect("/x.qcow2", target), Access(header=("Authorization", "Bearer secret")))
        assert [headers["Authorization"] for _, headers in web.asked] == ["Bearer secret"]
        assert [headers["Authorization"] for _, headers in storage.asked] == [None]


def test_a_page_instead_of_a_box(web: Web, home: HomeLayout) -> None:
    page = web.put("/x.box", b"<!DOCTYPE html><html>Please log in</html>", kind="text/html")
    with pytest.raises(VmctlError, match="It is a web page"):
        obtain(home, page)
    assert BoxStore(home).boxes() == []


def test_options_that_make_no_sense_for_a_file(home: HomeLayout, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--provider chooses from a catalogue"):
        obtain(home, str(libvirt_box(tmp_path)), provider="libvirt")
