from __future__ import annotations

import email.utils
import gzip
import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.box_web import web_server
from tests.unit.faulty_server import FaultyServer, faulty_server
from vmctl import interrupt
from vmctl.boxes import download
from vmctl.boxes.checksum import Checksum, ChecksumMismatch
from vmctl.boxes.download import DownloadFailed, Patience
from vmctl.boxes.range_request import CHUNK
from vmctl.boxes.space import NoSpace
from vmctl.errors import Interrupted
from vmctl.events import Event, Progress, Warned
from vmctl.layout import HomeLayout

BODY = b"".join(hashlib.sha512(str(number).encode()).digest() for number in range(20_000))  # 1.28 MB
QUICK = Patience(stall=0.5, tries=3, first_pause=0.01)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as one:
        one.body = BODY
        yield one


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "vmctl")


def fetch(server: FaultyServer, home: HomeLayout, checksum: Checksum | None = None) -> tuple[bytes, list[Event]]:
    events: list[Event] = []
    path, hashing = download.fetch(server.url, home, checksum=checksum, patience=QUICK, report=events.append)
    data = path.read_bytes()
    assert (hashing.size, hashing.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert sorted(home.downloads.iterdir()) == [path]
    return data, events


def test_a_file_comes_whole_with_progress(server: FaultyServer, home: HomeLayout) -> None:
    data, events = fetch(server, home)
    assert data == BODY
    assert events[-1] == Progress(step="download", done=len(BODY), total=len(BODY))
    assert server.ranges == [None]


def test_a_dropped_connection_goes_on_where_it_ended(server: FaultyServer, home: HomeLayout) -> None:
    server.drop_after = [15 * CHUNK, 2 * CHUNK]
    data, events = fetch(server, home)
    assert data == BODY
    assert server.ranges == [None, f"bytes={15 * CHUNK}-", f"bytes={17 * CHUNK}-"]
    assert len([event for event in events if isinstance(event, Warned)]) == 2


def test_a_stall_is_a_break(server: FaultyServer, home: HomeLayout) -> None:
    server.stall_after = [800_000]
    data, _ = fetch(server, home)
    assert data == BODY
    assert server.ranges[1] is not None


def test_without_an_etag_the_time_of_change_tells_that_it_is_the_same_file(
    server: FaultyServer, home: HomeLayout
) -> None:
    server.etag, server.last_modified, server.drop_after = 'W/"x"', "Wed, 21 Oct 2015 07:28:00 GMT", [8 * CHUNK]
    assert fetch(server, home)[0] == BODY
    assert server.ranges == [None, f"bytes={8 * CHUNK}-"]


def test_without_either_it_starts_over(server: FaultyServer, home: HomeLayout) -> None:
    server.etag, server.drop_after = "", [8 * CHUNK]
    assert fetch(server, home)[0] == BODY
    assert server.ranges == [None, None]


def test_a_server_that_ignores_ranges_starts_over(server: FaultyServer, home: HomeLayout) -> None:
    server.ignores_range, server.drop_after = True, [8 * CHUNK]
    assert fetch(server, home)[0] == BODY


def test_a_wrong_range_starts_over(server: FaultyServer, home: HomeLayout) -> None:
    server.wrong_range, server.drop_after = True, [8 * CHUNK]
    assert fetch(server, home)[0] == BODY
    assert server.ranges == [None, f"bytes={8 * CHUNK}-", None]


def test_a_file_that_changes_in_between_comes_whole_and_new(server: FaultyServer, home: HomeLayout) -> None:
    server.drop_after = [8 * CHUNK]
    server.statuses = []
    events: list[Event] = []

    def report(event: Event) -> None:
        events.append(event)
        if isinstance(event, Warned):
            server.body, server.etag = BODY[::-1], '"2"'

    path, _ = download.fetch(server.url, home, patience=QUICK, report=report)
    assert path.read_bytes() == BODY[::-1]


def test_the_next_command_goes_on_after_a_failure(server: FaultyServer, home: HomeLayout) -> None:
    server.drop_after = [10 * CHUNK, 0, 0, 0]
    with pytest.raises(DownloadFailed, match="could not be downloaded") as caught:
        fetch(server, home)
    assert "broke off" in caught.value.details
    server.drop_after = []
    server.ranges.clear()
    assert fetch(server, home)[0] == BODY
    assert server.ranges == [f"bytes={10 * CHUNK}-"]


def test_a_download_that_was_complete_but_not_used_is_not_fetched_again(server: FaultyServer, home: HomeLayout) -> None:
    server.drop_after = [len(BODY) - 1, 0, 0, 0]
    with pytest.raises(DownloadFailed):
        fetch(server, home)
    part = next(home.downloads.glob("*.part"))
    part.write_bytes(BODY)
    server.drop_after = []
    server.ranges.clear()
    assert fetch(server, home)[0] == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_in_trouble_is_asked_again(server: FaultyServer, home: HomeLayout, status: int) -> None:
    server.statuses = [status, status]
    assert fetch(server, home)[0] == BODY
    assert len(server.ranges) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(server: FaultyServer, home: HomeLayout, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(DownloadFailed, match="could not be downloaded") as caught:
        fetch(server, home)
    assert f"the server says {status}" in caught.value.details
    assert len(server.ranges) == 1


def test_a_server_that_promises_more_than_it_sends_is_an_error(server: FaultyServer, home: HomeLayout) -> None:
    server.claimed_length, server.etag = len(BODY) + 10, ""
    with pytest.raises(DownloadFailed) as caught:
        fetch(server, home)
    assert "broke off" in caught.value.details


def test_without_a_length_the_end_is_the_end(server: FaultyServer, home: HomeLayout) -> None:
    server.without_length = True
    data, events = fetch(server, home)
    assert data == BODY
    assert isinstance(events[-1], Progress)


def test_an_empty_file_comes_too(server: FaultyServer, home: HomeLayout) -> None:
    server.body = b""
    assert fetch(server, home)[0] == b""


def test_nobody_listens(home: HomeLayout) -> None:
    with pytest.raises(DownloadFailed) as caught:
        download.fetch("http://me:secret@127.0.0.1:9/x", home, patience=QUICK)
    assert "secret" not in str(caught.value)
    assert "refused" in caught.value.details


def test_the_checksum_covers_what_came_before_and_after_a_break(server: FaultyServer, home: HomeLayout) -> None:
    server.drop_after = [600_000]
    wanted = Checksum("sha512", hashlib.sha512(BODY).hexdigest())
    assert fetch(server, home, wanted)[0] == BODY


def test_a_wrong_checksum_leaves_nothing(server: FaultyServer, home: HomeLayout) -> None:
    with pytest.raises(ChecksumMismatch):
        fetch(server, home, Checksum("sha256", "0" * 64))
    assert list(home.downloads.iterdir()) == []


def test_what_can_not_fit_is_not_begun(server: FaultyServer, home: HomeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(total=10_000, used=9_000, free=1000)
    monkeypatch.setattr("vmctl.boxes.space.shutil.disk_usage", lambda _path: usage)
    with pytest.raises(NoSpace, match="not enough disk space to download") as caught:
        fetch(server, home)
    assert "1000 B is free" in caught.value.details
    assert "500 B of that is kept free" in caught.value.details
    assert list(home.downloads.iterdir()) == []


def test_an_interruption_ends_a_stalled_download_at_once_and_keeps_what_came(
    server: FaultyServer, home: HomeLayout, clean_interrupt: None
) -> None:
    server.stall_after = [300_000]
    threading.Timer(0.3, interrupt.request).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        download.fetch(server.url, home, patience=Patience(stall=30))
    assert time.monotonic() - started < 5  # of 30
    interrupt.clear()
    server.ranges.clear()
    assert fetch(server, home)[0] == BODY
    assert server.ranges[0] is not None


NEW = BODY[::-1]


def changed(server: FaultyServer, home: HomeLayout, body: bytes = NEW) -> None:
    """Leave a part of the old file, and put another in its place."""
    server.drop_after = [8 * CHUNK, 0, 0, 0]
    with pytest.raises(DownloadFailed):
        fetch(server, home)
    server.body, server.drop_after = body, []
    server.ranges.clear()


@pytest.mark.parametrize(
    ("etag", "modified", "body"),
    [
        ('"2"', "", NEW),
        ('"1"', "", NEW + b"x"),
        ('"1"', "", NEW[:-1]),
        ("", "Wed, 21 Oct 2015 07:28:01 GMT", NEW),
        ('W/"2"', "", NEW),
    ],
)
def test_two_files_are_never_joined(
    server: FaultyServer, home: HomeLayout, etag: str, modified: str, body: bytes
) -> None:
    server.ignores_if_range, server.last_modified = True, "Wed, 21 Oct 2015 07:28:00 GMT"
    changed(server, home, body)
    server.etag, server.last_modified = etag, modified
    assert fetch(server, home)[0] == body
    assert server.ranges == [f"bytes={8 * CHUNK}-", None]


def test_the_note_keeps_what_a_weak_etag_says(server: FaultyServer, home: HomeLayout) -> None:
    server.ignores_if_range, server.etag, server.last_modified = True, 'W/"1"', "Wed, 21 Oct 2015 07:28:00 GMT"
    changed(server, home)
    server.etag = 'W/"2"'
    assert fetch(server, home)[0] == NEW


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 524288-1279999/*", "Content-Length": "5"},
        {"Content-Range": "bytes 524288-9/1280000"},
        {"Content-Range": "bytes 524288-1280000/1280000"},
        {"Content-Range": f"bytes 524288-{'9' * 5000}/*"},
        {"Content-Range": "bytes 0-1279999/1280000"},
        {"Content-Range": "items 1-2/3"},
        {"Content-Range": ""},
        {"Content-Type": "multipart/byteranges; boundary=x"},
    ],
)
def test_a_part_that_contradicts_itself_starts_over(
    server: FaultyServer, home: HomeLayout, headers: dict[str, str]
) -> None:
    assert len(BODY) == 1_280_000
    server.part_headers, server.drop_after = headers, [8 * CHUNK]
    assert fetch(server, home)[0] == BODY
    assert server.ranges[-1] is None


@pytest.mark.parametrize("size", [8 * CHUNK, 100])
def test_nothing_beyond_the_end_of_another_file_is_no_end(server: FaultyServer, home: HomeLayout, size: int) -> None:
    server.ignores_if_range = True
    changed(server, home, NEW[:size])
    assert fetch(server, home)[0] == NEW[:size]
    assert server.ranges == [f"bytes={8 * CHUNK}-", None]


def test_a_kept_part_that_spoils_the_checksum_is_fetched_anew(server: FaultyServer, home: HomeLayout) -> None:
    server.ignores_if_range = True
    changed(server, home)  # same size, same ETag: only the checksum can tell
    data, events = fetch(server, home, Checksum("sha256", hashlib.sha256(NEW).hexdigest()))
    assert data == NEW
    assert any(isinstance(event, Warned) and "cannot be used" in event.text for event in events)


def test_a_damaged_note_is_as_good_as_none(server: FaultyServer, home: HomeLayout) -> None:
    changed(server, home, BODY)
    for note in ("{", "[1]", '{"etag": 5}'):
        next(home.downloads.glob("*.json")).write_text(note)
        part, _ = download.fetch(server.url, home, patience=QUICK)
        assert part.read_bytes() == BODY
        part.with_suffix(".json").touch()


def test_a_server_that_always_promises_more_comes_to_an_end(server: FaultyServer, home: HomeLayout) -> None:
    server.claimed_length = len(BODY) + 10
    with pytest.raises(DownloadFailed):
        fetch(server, home)
    assert len(server.ranges) < 10


def test_a_length_of_thousands_of_digits_is_none(server: FaultyServer, home: HomeLayout) -> None:
    server.claimed_length = int("9" * 4000)
    assert fetch(server, home)[0] == BODY  # it broke off; then the server says that nothing is left
    server.part_headers = {"Content-Length": "9" * 5000}
    assert fetch(server, home)[0] == BODY


@pytest.mark.parametrize("label", ["gzip", "x-gzip", "br", "deflate", "compress"])
def test_the_bytes_are_kept_as_they_were_sent(server: FaultyServer, home: HomeLayout, label: str) -> None:
    server.body, server.headers, server.drop_after = gzip.compress(BODY), {"Content-Encoding": label}, [4 * CHUNK]
    assert fetch(server, home)[0] == server.body
    assert server.ranges == [None, f"bytes={4 * CHUNK}-"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_is_given_the_time_that_it_asks_for(server: FaultyServer, home: HomeLayout, status: int) -> None:
    server.statuses, server.retry_after = [status], "1"
    began = time.monotonic()
    assert fetch(server, home)[0] == BODY
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_that_asks_for_too_much_time_is_told_of(
    server: FaultyServer, home: HomeLayout, *, as_date: bool
) -> None:
    asked = email.utils.formatdate(time.time() + 3600, usegmt=True) if as_date else "3600"
    server.statuses, server.retry_after = [503], asked
    with pytest.raises(DownloadFailed, match=r"503 .* and asks to wait 3[56]\d\d s"):
        fetch(server, home)
    assert len(server.ranges) == 1


def test_a_senseless_retry_after_counts_as_none(server: FaultyServer, home: HomeLayout) -> None:
    server.statuses, server.retry_after = [503], "soon"
    assert fetch(server, home)[0] == BODY


def test_an_endless_download_leaves_the_reserve_of_the_disk(
    server: FaultyServer, home: HomeLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.endless = True
    total = 200 * 1024**2
    written: list[int] = []

    def usage(directory: Path) -> object:
        written.append(sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file()))
        return shutil._ntuple_diskusage(total=total, used=written[-1], free=total - written[-1])

    monkeypatch.setattr("vmctl.boxes.space.shutil.disk_usage", usage)
    with pytest.raises(NoSpace, match="not enough disk space to download"):
        fetch(server, home)
    assert total * 0.7 < max(written) <= total * 0.95
    assert list(home.downloads.iterdir()) == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher:x"])
def test_a_download_stays_on_the_web(home: HomeLayout, target: str) -> None:
    with web_server() as web:
        start = web.redirect("/here", target)
        with pytest.raises(DownloadFailed, match="may only lead to http and https URLs"):
            download.fetch(start, home, patience=QUICK)
        assert len(web.asked) == 1
