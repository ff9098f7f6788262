from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.box_archives import tarred
from tests.unit.box_images import MIB, qcow2, raw, write
from tests.unit.faulty_server import FaultyServer, faulty_server
from tests.unit.killed_child import killed_at
from vmctl import boxes, interrupt
from vmctl.boxes import adding, space, store_upkeep, streams
from vmctl.boxes.adding import add
from vmctl.boxes.archive import BadArchive
from vmctl.boxes.box import Box
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.checksum import Checksum, ChecksumMismatch, Hashing
from vmctl.boxes.download import DownloadFailed, Patience
from vmctl.boxes.image import NotAnImage
from vmctl.boxes.request import Request
from vmctl.errors import Interrupted, UsageError, VmctlError
from vmctl.events import Event, StepDone, Warned
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef

QUICK = Patience(stall=1, tries=3, first_pause=0.01)


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "vmctl")


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as one:
        one.body = qcow2()
        yield one


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(tmp_path / "jammy.qcow2", qcow2())


def unchanged(home: HomeLayout) -> bool:
    """Whether there is nothing in the store, not even a leftover."""
    found = [*home.boxes.rglob("*"), *(home.downloads.iterdir() if home.downloads.exists() else [])]
    return found == []


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_becomes_a_box(home: HomeLayout, image: Path) -> None:
    events: list[Event] = []
    box, new = add(Request(address=str(image)), home, report=events.append)
    assert new
    assert (box.name, box.format, box.digest, box.virtual_size) == ("jammy", "qcow2", sha256(qcow2()), 64 * MIB)
    assert box.path.read_bytes() == qcow2()
    assert box.size == len(qcow2())
    assert boxes.find(BoxRef(address="jammy"), home) == box
    assert isinstance(events[-1], StepDone)
    assert events[-1].changed


def test_holes_stay_holes(home: HomeLayout, tmp_path: Path) -> None:
    box, _ = add(Request(address=str(write(tmp_path / "disk.img", raw(size=64 * MIB)))), home)
    assert box.path.read_bytes() == raw(size=64 * MIB)
    assert box.path.stat().st_blocks * 512 < MIB


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)])
def test_compressed_images_are_stored_unpacked(
    home: HomeLayout, tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(qcow2())
    path = write(tmp_path / f"jammy.qcow2{suffix}", packed)
    box, _ = add(Request(address=str(path), checksum=Checksum("sha256", sha256(packed))), home)
    assert (box.name, box.digest, box.path.read_bytes()) == ("jammy", sha256(qcow2()), qcow2())
    with pytest.raises(NotAnImage, match="cannot be used"):
        add(Request(address=str(write(path, packed[:-9])), name="other"), home)
    assert len(BoxStore(home).boxes()) == 1


def test_an_unchanged_file_is_not_added_twice_and_a_changed_one_is(home: HomeLayout, image: Path) -> None:
    first, _ = add(Request(address=str(image)), home)
    assert add(Request(address=str(image)), home) == (first, False)
    os.utime(image)  # touched, same content
    second, new = add(Request(address=str(image)), home)
    assert (second.digest, second.version, new) == (first.digest, first.version, False)
    assert boxes.find(BoxRef(address=str(image)), home) == second  # and that is remembered
    write(image, qcow2(payload=b"changed"))
    assert boxes.find(BoxRef(address=str(image)), home) is None
    third = boxes.ensure(BoxRef(address=str(image)), home)
    assert third.digest == sha256(qcow2(payload=b"changed"))
    assert boxes.ensure(BoxRef(address=str(image)), home) == third


def test_a_copy_is_the_same_box(home: HomeLayout, image: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copies" / image.name
    copy.parent.mkdir()
    first, _ = add(Request(address=str(image)), home)
    second, new = add(Request(address=f"file://{write(copy, qcow2())}"), home)
    assert (second.directory, new) == (first.directory, False)
    assert boxes.find(BoxRef(address=str(image)), home) == boxes.find(BoxRef(address=str(copy)), home)


def test_name_version_and_the_rest_are_the_users(home: HomeLayout, image: Path) -> None:
    request = Request(
        address=str(image), name="org/jammy", version="1.2", arch="arm64", user="ubuntu", firmware="uefi",
        cloud_init=False,
    )  # fmt: skip
    box, _ = add(request, home)
    assert (box.name, box.version, box.arch, box.user) == ("org/jammy", "1.2", "aarch64", "ubuntu")
    assert (box.firmware, box.cloud_init) == ("uefi", False)
    write(image, qcow2(payload=b"other"))
    with pytest.raises(UsageError, match="already, with different content"):
        add(request, home)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(address="/no/such/file"), "there is no file /no/such/file"),
        (Request(address="/tmp", name="../x"), "invalid box name"),
        (Request(address="/tmp", version="one"), "invalid version"),
        (Request(address="ftp://host/x"), "not from ftp://host/x"),
    ],
)
def test_senseless_requests(home: HomeLayout, request_: Request, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        add(request_, home)


def test_a_box_of_1500_directories_is_refused_and_stops_no_other(home: HomeLayout, image: Path, tmp_path: Path) -> None:
    deep = write(tmp_path / "deep.box", tarred({"a/" * 1500 + "box.img": b"x"}))
    with pytest.raises(BadArchive, match=r"deep[.]box cannot be unpacked") as caught:
        add(Request(address=str(deep)), home)
    assert "more than 32 directories deep" in caught.value.details
    assert unchanged(home)
    left = f"{home.boxes}/.new-left"  # as an older vmctl left it
    for _ in range(1500):
        os.mkdir(left)  # noqa: PTH102  pathlib recurses
        left += "/a"
    box, _ = add(Request(address=str(image)), home)
    assert [path.name for path in home.boxes.iterdir()] == [box.name]


def test_bad_files_leave_the_store_unchanged(home: HomeLayout, image: Path) -> None:
    with pytest.raises(ChecksumMismatch, match=str(image)):
        add(Request(address=str(image), checksum=Checksum("sha256", "0" * 64)), home)
    for data in (b"<html>" + bytes(900), qcow2()[:-70_000], qcow2(backing=b"/etc/passwd"), b""):
        with pytest.raises(NotAnImage, match=str(image)):
            add(Request(address=str(write(image, data))), home)
    assert unchanged(home)


def test_a_url_becomes_a_box(home: HomeLayout, server: FaultyServer) -> None:
    server.drop_after = [131072]
    checksum = Checksum("sha256", sha256(qcow2()))
    box, _ = add(Request(address=server.url, checksum=checksum), home, patience=QUICK)
    assert (box.name, box.source, box.path.read_bytes()) == ("image", server.url, qcow2())
    assert box.provenance["checksum"] == str(checksum)
    assert boxes.ensure(BoxRef(address=server.url), home) == box
    assert len(server.ranges) == 2
    assert list(home.downloads.iterdir()) == []


def test_a_clock_that_was_set_back_skips_no_download(
    home: HomeLayout, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = add(Request(address=server.url), home, patience=QUICK)
    server.body, server.etag = qcow2(payload=b"new"), '"2"'
    monkeypatch.setattr("vmctl.boxes.adding.time.time", lambda: old.provenance["added"] - 10 * 86400)
    new, added = add(Request(address=server.url), home, patience=QUICK)
    assert (added, new.path.read_bytes()) == (True, server.body)
    assert len(server.ranges) == 2


def test_a_url_of_a_compressed_image(home: HomeLayout, server: FaultyServer) -> None:
    server.body = gzip.compress(qcow2())
    box, _ = add(Request(address=server.url), home, patience=QUICK)
    assert box.path.read_bytes() == qcow2()
    assert list(home.downloads.iterdir()) == []


def test_what_was_not_verified_is_said(home: HomeLayout, server: FaultyServer) -> None:
    events: list[Event] = []
    add(Request(address=server.url), home, report=events.append, patience=QUICK)
    warning = next(event for event in events if isinstance(event, Warned))
    assert "not verified" in warning.text
    assert sha256(qcow2()) in warning.hint


def test_bad_downloads_leave_the_store_unchanged(home: HomeLayout, server: FaultyServer) -> None:
    server.body = b"<!doctype html><html>please log in</html>" + bytes(600)
    with pytest.raises(NotAnImage, match="cannot be used") as caught:
        add(Request(address=server.url), home, patience=QUICK)
    assert "web page" in caught.value.details
    server.body = qcow2()
    with pytest.raises(ChecksumMismatch):
        add(Request(address=server.url, checksum=Checksum("sha256", "0" * 64)), home, patience=QUICK)
    server.statuses = [404]
    with pytest.raises(DownloadFailed, match="could not be downloaded"):
        add(Request(address=server.url), home, patience=QUICK)
    assert unchanged(home)


def test_two_who_want_the_same_download_it_once(home: HomeLayout, server: FaultyServer) -> None:
    found: list[Box] = []
    workers = [
        threading.Thread(target=lambda: found.append(boxes.ensure(BoxRef(address=server.url), home))) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len({box.directory for box in found}) == 1
    assert len(found) == 4
    assert len(server.ranges) == 1


def test_a_password_in_a_url_is_not_kept(home: HomeLayout, server: FaultyServer) -> None:
    url = server.url.replace("http://", "http://me:secret@")
    box, _ = add(Request(address=url), home, patience=QUICK)
    assert "secret" not in (box.directory / "box.json").read_text()
    assert boxes.find(BoxRef(address=url), home) == box


def test_a_file_that_changes_while_it_is_read_is_refused(
    home: HomeLayout, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = iter(["1", "1", "2"])
    monkeypatch.setattr(adding, "stamp", lambda _path: next(stamps))
    with pytest.raises(VmctlError, match="changed while it was read"):
        add(Request(address=str(image)), home)
    assert unchanged(home)


def test_an_interruption_leaves_the_store_unchanged(home: HomeLayout, image: Path, clean_interrupt: None) -> None:
    def stop(_event: Event) -> None:
        interrupt.request()

    with pytest.raises(Interrupted):
        add(Request(address=str(image)), home, report=stop)
    interrupt.clear()
    assert unchanged(home)


def run(code: str, *argv: str, **limits: tuple[int, int]) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        for name, values in limits.items():
            resource.setrlimit(getattr(resource, name), values)

    argv = (sys.executable, "-c", textwrap.dedent(code), *argv)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(argv, env=env, preexec_fn=limit, capture_output=True, text=True, check=False)


ADD = """
    import signal, sys
    from pathlib import Path
    from vmctl.boxes.adding import Request, add
    from vmctl.errors import VmctlError
    from vmctl.layout import HomeLayout
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        add(Request(address=sys.argv[2]), HomeLayout(Path(sys.argv[1])))
    except VmctlError as error:
        print(error)
        sys.exit(7)
"""


def test_a_disk_that_becomes_full_is_one_clear_error_and_leaves_nothing(
    home: HomeLayout, image: Path, server: FaultyServer
) -> None:
    for address in (str(image), server.url):
        done = run(ADD, str(home.root), address, RLIMIT_FSIZE=(200_000, 200_000))
        assert done.returncode == 7, done.stderr
        assert done.stdout.startswith("the disk became full")
        assert unchanged(home)


def test_memory_does_not_grow_with_the_image(home: HomeLayout, tmp_path: Path) -> None:
    path = tmp_path / "big.img"
    with path.open("wb") as stream:
        stream.write(raw(size=MIB))
        stream.truncate(1024 * MIB)
    # VmHWM begins anew with each program; ru_maxrss would count pytest's own memory, from before the exec.
    code = ADD + "\n    print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    done = run(code, str(home.root), str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) < 120 * 1024


@pytest.mark.parametrize("place", ["boxes", "locks", "downloads"])
def test_a_store_that_can_not_be_written(home: HomeLayout, server: FaultyServer, place: str) -> None:
    home.root.mkdir()
    (home.root / place).write_text("in the way")
    with pytest.raises(VmctlError, match=r"image\.qcow2 was not added: the store of boxes cannot be written") as caught:
        add(Request(address=server.url), home)
    assert str(home.root / place) in caught.value.details
    assert caught.value.hint == f"ls -ld {home.boxes}"


CHANGES = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "link", "chmod")


def test_a_kill_at_any_step_of_adding_leaves_the_old_state_or_the_new_one(home: HomeLayout, tmp_path: Path) -> None:
    first, second = qcow2(), qcow2(payload=b"data")
    metadata = b'{"provider": "libvirt", "disks": [{"path": "a"}, {"path": "b"}]}'
    members = {
        "metadata.json": metadata,
        "a": first,
        "b": second,
        "vagrant_private_key": b"-----BEGIN PRIVATE KEY-----",
    }
    path = write(tmp_path / "my.box", tarred(members))
    seen = set()

    def work() -> object:
        return add(Request(address=str(path)), home)

    for step in range(1, 500):
        status = killed_at(step, work, CHANGES)
        boxes = BoxStore(home).boxes()
        for box in boxes:
            assert [one.path.read_bytes() for one in (box.disk(), *box.disk().further)] == [first, second]
            assert box.first_login_key() == members["vagrant_private_key"]
            BoxStore(home).remove(box, {})
        with BoxStore(home).draft():
            assert len(list(home.boxes.glob(".new-*"))) == 1  # what was left is gone, but for this one
            assert [path for path in home.boxes.rglob("*") if path.is_file()] == []
        seen.add(len(boxes))
        if status == 0:
            break
    else:
        pytest.fail("it never came to its end")
    assert seen == {0, 1}


def test_many_who_add_at_once_all_succeed(home: HomeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Different images of one name, in one second: each gets a version of its own. Equal ones become one box."""
    monkeypatch.setattr(time, "strftime", lambda *_: "0.20260101.000000")
    places = [tmp_path / f"{number}" for number in range(16)]
    for number, place in enumerate(places):
        place.mkdir()
        write(place / "disk.qcow2", qcow2(payload=f"{number // 2}".encode()))
    children = []
    for place in places:
        if not (child := os.fork()):
            try:
                add(Request(address=str(place / "disk.qcow2")), home)
            except BaseException:  # noqa: BLE001  the child must not go on
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(places)
    boxes = BoxStore(home).boxes("disk")
    assert len({box.version for box in boxes}) == len({box.digest for box in boxes}) == len(boxes) == 8
    assert [len(box.provenance["stamps"]) for box in boxes] == [2] * 8
    assert list(home.boxes.glob(".new-*")) == []


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_the_bytes_that_are_unpacked_are_those_that_were_hashed(
    home: HomeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    good = tarred({"box.img": qcow2(payload=b"good")}, mode=mode)
    evil = tarred({"box.img": qcow2(payload=b"evil")}, mode=mode)
    size = max(len(good), len(evil)) + 512
    good, evil = good.ljust(size, b"\0"), evil.ljust(size, b"\0")
    path = write(tmp_path / "my.box", good)
    before = path.stat()
    verify = Hashing.verify

    def swapped(hashing: Hashing, name: str) -> None:
        verify(hashing, name)
        write(path, evil)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    monkeypatch.setattr(Hashing, "verify", swapped)
    box, _ = add(Request(address=str(path), checksum=Checksum("sha256", sha256(good))), home)
    assert box.digest == sha256(qcow2(payload=b"good"))
    with pytest.raises(ChecksumMismatch):
        add(Request(address=str(path), name="again", checksum=Checksum("sha256", sha256(good))), home)


def test_a_file_that_is_replaced_while_it_is_read_is_refused(
    home: HomeLayout, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = streams.copy

    def replaced(read: Callable[[int], bytes], target: BinaryIO, *, room: space.Room) -> int:
        write(image.with_name("other"), qcow2(payload=b"other")).replace(image)
        return copy(read, target, room=room)

    monkeypatch.setattr(streams, "copy", replaced)
    with pytest.raises(VmctlError, match="changed while it was read"):
        add(Request(address=str(image)), home)
    assert unchanged(home)


def test_a_box_that_is_removed_while_it_is_added_again_comes_back_whole(
    home: HomeLayout, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = add(Request(address=str(image)), home)
    annotate = BoxStore.annotate

    def late(box_store: BoxStore, box: Box, **more: Any) -> Box | None:
        box_store.remove(box, {})
        return annotate(box_store, box, **more)

    monkeypatch.setattr(BoxStore, "annotate", late)
    again, new = add(Request(address=str(image)), home)
    assert (again.digest, new) == (first.digest, True)
    assert again.path.read_bytes() == qcow2()
    assert BoxStore(home).boxes() == [again]


def test_a_box_with_another_second_disk_is_another_box(home: HomeLayout, tmp_path: Path) -> None:
    metadata = b'{"provider": "libvirt", "disks": [{"path": "a"}, {"path": "b"}]}'
    digests = []
    for text in (b"one", b"two"):
        members = {"metadata.json": metadata, "a": qcow2(), "b": qcow2(payload=text)}
        box, new = add(Request(address=str(write(tmp_path / "my.box", tarred(members)))), home)
        assert new
        digests.append(box.further[0].digest)
    assert digests == [sha256(qcow2(payload=b"one")), sha256(qcow2(payload=b"two"))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "provider": st.sampled_from(["libvirt", "virtualbox", "hyperv"]) | JSON,
        "format": st.just("qcow2") | JSON,
        "virtual_size": st.integers(-1, 3) | JSON,
        "architecture": st.sampled_from(["amd64", "arm64", "unknown", ""]) | JSON,
        "disks": st.lists(st.fixed_dictionaries({"path": st.sampled_from(["box.img", "b", "../b", "/b"])}), max_size=3),
    },
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    metadata=METADATA | JSON, cut=st.integers(0, 60_000) | st.none(), flips=st.lists(st.integers(0, 50_000), max_size=3)
)
def test_any_box_is_taken_or_refused_and_the_store_is_whole(
    tmp_path_factory: pytest.TempPathFactory, metadata: object, cut: int | None, flips: list[int]
) -> None:
    place = tmp_path_factory.mktemp("fuzz")
    home = HomeLayout(place / "vmctl")
    members = {"metadata.json": json.dumps(metadata).encode(), "box.img": qcow2(), "b": qcow2(payload=b"more")}
    data = bytearray(tarred(members)[:cut])
    for at in flips:
        if at < len(data):
            data[at] ^= 0x41
    path = write(place / "my.box", bytes(data))
    taken, refusal = [], ""
    try:
        taken = [add(Request(address=str(path)), home)[0]]
    except VmctlError as error:
        refusal = str(error)
    assert taken or str(path) in refusal
    assert BoxStore(home).boxes() == taken
    assert [store_upkeep.damage(box) for box in taken] == [""] * len(taken)
    assert list(home.boxes.glob(".new-*")) == []
