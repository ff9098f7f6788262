from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.box_web import Web, web_server
from vmctl.boxes.web import Access, Unavailable
from vmctl.errors import UsageError


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as one:
        yield one


@pytest.fixture
def other() -> Iterator[Web]:
    with web_server() as one:
        yield one


def test_texts_are_fetched(web: Web) -> None:
    assert Access().text(web.put("/list", b"content")) == b"content"


def test_what_is_not_there_is_told_apart(web: Web) -> None:
    with pytest.raises(Unavailable, match="could not be read") as caught:
        Access().text(f"{web.url}/absent")
    assert caught.value.absent
    with pytest.raises(Unavailable, match="500") as caught:
        Access().text(web.put("/broken", b"", 500))
    assert not caught.value.absent
    with pytest.raises(Unavailable) as caught:
        Access().text("http://user:pass@127.0.0.1:9/x")
    assert "pass" not in str(caught.value)


def test_endless_documents_are_refused(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmctl.boxes.web.LONGEST_TEXT", 1000)
    with pytest.raises(Unavailable, match="longer than 1000 bytes"):
        Access().text(web.put("/long", bytes(2000)))


def test_the_token_goes_to_the_catalogue_server_only(web: Web, other: Web) -> None:
    access = Access(servers=(web.url,), token="secret")  # noqa: S106  a test's
    access.text(web.redirect("/here", other.put("/there", b"x")))
    access.text(other.redirect("/back", web.put("/home", b"y")))
    sent = {path: headers["Authorization"] for path, headers in [*web.asked, *other.asked]}
    assert sent == {"/here": "Bearer secret", "/there": None, "/back": None, "/home": "Bearer secret"}


def test_the_header_goes_to_the_given_address_only(web: Web, other: Web) -> None:
    access = Access(header=("X-Auth", "secret"))
    start = web.redirect("/here", other.put("/there", b"x"))
    access.text(start, header_for=start)
    access.text(f"{other.url}/there")
    assert [headers["X-Auth"] for _, headers in web.asked] == ["secret"]
    assert [headers["X-Auth"] for _, headers in other.asked] == [None, None]


def test_netrc_counts_and_does_not_follow_redirects(
    web: Web, other: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    Access().text(web.redirect("/here", other.put("/there", b"x").replace("127.0.0.1", "localhost")))
    assert [headers["Authorization"] for _, headers in web.asked] == ["Basic bWU6c2VjcmV0"]
    assert [headers["Authorization"] for _, headers in other.asked] == [None]


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMCTL_BOX_SERVER", "https://a.example, https://b.example")
    monkeypatch.setenv("VMCTL_BOX_TOKEN", "t")
    monkeypatch.setenv("VMCTL_BOX_HEADER", "X-Auth: one:two")
    access = Access.from_environment()
    assert access.servers == ("https://a.example", "https://b.example")
    assert (access.token, access.header) == ("t", ("X-Auth", "one:two"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VMCTL_BOX_SERVER", "example.org"),
        ("VMCTL_BOX_SERVER", "ftp://x"),
        ("VMCTL_BOX_HEADER", "no colon"),
        ("VMCTL_BOX_HEADER", "A: b\r\nC: d"),
    ],
)
def test_a_bad_environment(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=variable):
        Access.from_environment()
