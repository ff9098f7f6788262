from __future__ import annotations

import gzip
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.unit.box_web import Web, web_server
from vmctl.boxes.web import Access, Unavailable
from vmctl.errors import UsageError
from vmctl.events import Event, Warned


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


@pytest.mark.parametrize("label", ["gzip", "x-gzip", "GZIP", "identity", ""])
def test_a_text_that_was_sent_as_gzip_is_read(web: Web, label: str) -> None:
    url = web.put("/c.json", gzip.compress(b'{"name": "x"}'), 200, **{"Content-Encoding": label or "identity"})
    assert Access().text(url) == b'{"name": "x"}'


def test_a_text_that_is_only_labelled_gzip_is_read(web: Web) -> None:
    assert Access().text(web.put("/c.json", b"{}", 200, **{"Content-Encoding": "gzip"})) == b"{}"


def test_a_bomb_in_gzip_is_refused(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmctl.boxes.web.LONGEST_TEXT", 100_000)
    with pytest.raises(Unavailable, match="longer than 100000 bytes"):
        Access().text(web.put("/c.json", gzip.compress(bytes(10**7))))
    with pytest.raises(Unavailable, match="gzip data ends early"):
        Access().text(web.put("/c.json", gzip.compress(b"abc")[:-4]))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_the_web_leads_only_to_the_web(web: Web, target: str) -> None:
    with pytest.raises(Unavailable, match=r"(?s)what is on the web may only lead to http"):
        Access().text(web.redirect("/here", target))
    assert Access().content_type(web.url + "/here") == ""


def test_redirects_that_never_end_are_refused(web: Web) -> None:
    with pytest.raises(Unavailable, match="redirects"):
        Access().text(web.redirect("/here", "/here"))


class Answers(requests.adapters.BaseAdapter):
    """Says for https what a test wants, without certificates."""

    def __init__(self, location: str) -> None:
        super().__init__()
        self.location = location

    def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:  # type: ignore[override]
        response = requests.Response()
        response.status_code, response.url, response.request = 302, request.url or "", request
        response.headers["Location"] = self.location
        response.raw = io.BytesIO()
        return response

    def close(self) -> None:
        return


def test_https_that_leads_to_http_is_told(web: Web) -> None:
    events: list[Event] = []
    with Access().session(report=events.append) as session:
        session.mount("https://", Answers(web.put("/plain", b"x")))
        assert session.get("https://me:secret@example.org/").content == b"x"
    (event,) = events
    assert isinstance(event, Warned)
    assert "https://example.org/ leads to http://127.0.0.1" in event.text
    assert "secret" not in event.text


def test_a_busy_server_is_asked_again_for_a_text(web: Web) -> None:
    url = web.put("/busy", b"", 503, **{"Retry-After": "1"})
    began = time.monotonic()
    with pytest.raises(Unavailable, match="503"):
        Access().text(url)
    assert len(web.asked) == 3
    assert time.monotonic() - began >= 2
    web.put("/busy", b"", 429, **{"Retry-After": "3600"})
    web.asked.clear()
    with pytest.raises(Unavailable, match="429"):
        Access().text(url)
    assert len(web.asked) == 1
