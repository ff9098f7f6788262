"""What stands beside a document: files with any name beside files, and on the web nothing but the web."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmctl.boxes import address
from vmctl.boxes.address import Astray

NAMES = ["plain", "Our Share", "c# projects", "what?", "100% sure", "a;b", "a&b=c", "größe ☃", "50%25", "a+b", "a:b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_relative_address_is_the_file_beside_the_catalogue(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    box = tmp_path / name / f"{name}.box"
    box.touch()
    (tmp_path / name / "c.json").touch()
    for where in (
        tmp_path / name / "c.json",
        f"file://{tmp_path}/{name}/c.json",
        (tmp_path / name / "c.json").as_uri(),
    ):
        for reference in (f"{name}.box", f"./{name}.box", f"../{name}/{name}.box", str(box), box.as_uri()):
            assert address.beside(str(where), reference) == str(box), (where, reference)


def test_a_reference_that_is_percent_encoded_is_the_file_it_means(tmp_path: Path) -> None:
    (tmp_path / "my box.box").touch()
    assert address.beside(f"{tmp_path}/c.json", "my%20box.box") == f"{tmp_path}/my box.box"
    (tmp_path / "my%20box.box").touch()
    assert address.beside(f"{tmp_path}/c.json", "my%20box.box") == f"{tmp_path}/my%20box.box"


def test_local_documents_may_lead_to_the_web() -> None:
    assert address.beside("/srv/c.json", "https://h/a.box?x=1#y") == "https://h/a.box?x=1#y"
    with pytest.raises(Astray, match="neither a file nor"):
        address.beside("/srv/c.json", "ftp://h/a.box")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("file:///srv/a", "/srv/a"),
        ("file:/srv/a", "/srv/a"),
        ("FILE://localhost/srv/a%20b", "/srv/a b"),
        ("file:///srv/a#b?c", "/srv/a#b?c"),
        ("/srv/a%20b", "/srv/a%20b"),
    ],
)
def test_file_urls(written: str, meant: str) -> None:
    assert str(address.local_path(written)) == meant


def test_a_file_of_another_host_is_refused() -> None:
    with pytest.raises(Astray, match="of the host srv"):
        address.local_path("file://srv/box.json")


@pytest.mark.parametrize(
    "reference",
    ["file:///etc/passwd", "file:/etc/passwd", "ftp://h/x", "data:,x", "http:", "http://[::1", "x:y"],
)
def test_the_web_leads_only_to_the_web(reference: str) -> None:
    with pytest.raises(Astray):
        address.beside("https://h/c.json", reference)


def test_relative_addresses_on_the_web() -> None:
    assert address.beside("https://h/d/c.json?x=1", "b.box?dl=1") == "https://h/d/b.box?dl=1"
    assert address.beside("https://h/d/c.json", "//i/b.box") == "https://i/b.box"
    assert address.beside("https://h/d/c.json", "/etc/passwd") == "https://h/etc/passwd"
