"""The built-in catalogue: the shape of its data, and lists of checksums from a real server, signed by real keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.unit.box_web import Web, web_server
from tests.unit.test_boxes_signature import Signer, end_agent, make_signer
from vmctl.boxes import box_names, builtin
from vmctl.boxes.builtin import CatalogueEntry
from vmctl.boxes.signature import BadSignature
from vmctl.boxes.web import Access, Unavailable
from vmctl.errors import UsageError
from vmctl.events import Event, Warned, ignore

KEYS = {"urls", "arches", "checksums", "signature", "signer", "keyrings", "user", "firmware"}
A = "a" * 64


@pytest.mark.parametrize("name", builtin.entries())
def test_every_entry_is_well_formed(name: str) -> None:
    table = builtin.entries()[name]
    assert box_names.check(name) == name
    assert set(table) <= KEYS
    assert bool(table.get("signer")) == bool(table.get("keyrings"))
    assert "x86_64" in table["arches"]
    for arch in table["arches"]:
        entry = builtin.find(name, arch)
        assert entry is not None
        assert entry.firmware in ("bios", "uefi")
        assert re.fullmatch(r"[a-z]+", entry.user)
        assert re.fullmatch(r"([0-9A-F]{40})?", entry.signer)
        files = {urlsplit(url).path.rpartition("/")[2] for url in entry.urls}
        assert len(files) == 1, "mirrors hold the same file"
        for url in [*entry.urls, entry.checksums, entry.signature]:
            assert not set("{}$ ") & set(url)
        assert all(urlsplit(url).scheme == "https" and url.endswith((".qcow2", ".img")) for url in entry.urls)


def test_all_distributions_are_there() -> None:
    known = {re.split(r"-|$", name)[0] for name in builtin.entries()}
    assert known == {"debian", "ubuntu", "fedora", "almalinux", "rocky", "opensuse", "alpine", "arch"}


def test_what_is_not_there() -> None:
    assert builtin.find("plan9", "x86_64") is None
    with pytest.raises(UsageError, match="there is no arch for s390x"):
        builtin.find("arch", "s390x")


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as one:
        yield one


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = make_signer(tmp_path_factory.mktemp("gpg") / "publisher")
    yield made
    end_agent(made)


def entry(web: Web, *mirrors: str, **more: str | tuple[Path, ...]) -> CatalogueEntry:
    urls = (*mirrors, f"{web.url}/images/disk.img")
    return CatalogueEntry(name="x", arch="x86_64", urls=urls, checksums="SHA256SUMS", user="u", **more)  # type: ignore[arg-type]


def test_the_list_is_beside_the_image(web: Web) -> None:
    web.put("/images/SHA256SUMS", f"{A}  disk.img\n".encode())
    assert str(builtin.checksum(entry(web), Access(), ignore)) == f"sha256:{A}"


def test_a_mirror_that_does_not_answer(web: Web) -> None:
    web.put("/images/SHA256SUMS", f"{A}  disk.img\n".encode())
    events: list[Event] = []
    found = builtin.checksum(entry(web, "http://127.0.0.1:9/disk.img"), Access(), events.append)
    assert str(found) == f"sha256:{A}"
    assert [isinstance(event, Warned) and "trying the next mirror" in event.text for event in events] == [True]
    web.pages.clear()
    with pytest.raises(Unavailable):
        builtin.checksum(entry(web, f"{web.url}/no/disk.img"), Access(), ignore)


@pytest.mark.parametrize("clear", [False, True])
def test_signed_lists(web: Web, signer: Signer, *, clear: bool) -> None:
    text = f"{A}  disk.img\n".encode()
    web.put("/images/SHA256SUMS", signer.sign(text, "--clearsign") if clear else text)
    web.put("/images/SHA256SUMS.gpg", signer.sign(text, "--detach-sign"))
    signed = entry(web, signer=signer.fingerprint, keyrings=(signer.keys,), signature="" if clear else "SHA256SUMS.gpg")
    assert str(builtin.checksum(signed, Access(), ignore)) == f"sha256:{A}"
    web.put("/images/SHA256SUMS", f"{'b' * 64}  disk.img\n".encode())
    with pytest.raises(BadSignature):
        builtin.checksum(signed, Access(), ignore)


def test_a_key_that_is_not_on_this_host_is_told(web: Web) -> None:
    web.put("/images/SHA256SUMS", f"{A}  disk.img\n".encode())
    events: list[Event] = []
    signed = entry(web, signer="F" * 40, keyrings=(Path("/absent.gpg"),), signature="SHA256SUMS.gpg")
    assert str(builtin.checksum(signed, Access(), events.append)) == f"sha256:{A}"
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert "is not verified" in warned.text
    assert f"keys/{'F' * 40}.gpg" in warned.hint
