"""Pushes and pulls that are killed or cut off, and what they cost then."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit import oci_servers
from tests.unit.box_images import MIB, write
from tests.unit.oci_servers import Registry, Wire, docker_registry, wire
from vmctl import process
from vmctl.boxes import retries
from vmctl.boxes.adding import add
from vmctl.boxes.box import Box
from vmctl.boxes.oci import pull, qcow2_layout, registry_client, upload, windows
from vmctl.boxes.oci.pushing import push
from vmctl.boxes.oci.transport import RegistryError
from vmctl.boxes.request import Order, Request
from vmctl.boxes.space import NoSpace
from vmctl.boxes.web import Access
from vmctl.layout import HomeLayout

WINDOWS = 4
DISK = oci_servers.disk(windows=WINDOWS, holes=())
POINTS = tuple(range(MIB // 3, WINDOWS * MIB, 3 * MIB // 2))
HEADERS = MIB // 4
"""What requests and answers may take besides."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as one:
        yield one


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", MIB)
    monkeypatch.setattr(upload, "PIECE", MIB // 8)
    monkeypatch.setattr(registry_client, "CHUNK", MIB // 64)
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.01)


@pytest.fixture
def line(server: Registry) -> Iterator[Wire]:
    with wire(server.port) as one:
        yield one


@pytest.fixture
def home(private_home: Path) -> HomeLayout:
    return HomeLayout(private_home)


@pytest.fixture
def box(home: HomeLayout) -> Box:
    path = write(home.root / "web.img", DISK)
    return add(Request(address=str(path), name="web", version="1"), home)[0]


def killed_when(line: Wire, passed: int, work: Callable[[], object]) -> None:
    """Do the work in a child that is killed when so many bytes have gone over the wire."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    line.at_cut = lambda: os.kill(child, signal.SIGKILL)
    line.cut_after.append(passed)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, status


def is_whole(box: Box, tmp_path: Path) -> bool:
    process.run(["qemu-img", "check", "-q", "--", box.path])
    process.run(["qemu-img", "convert", "-O", "raw", "--", box.path, tmp_path / "content"])
    digest = hashlib.sha256(box.path.read_bytes()).hexdigest()
    return (tmp_path / "content").read_bytes() == DISK and digest == box.digest


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_push_goes_on(point: int, line: Wire, server: Registry, box: Box, home: HomeLayout) -> None:
    target = f"oci://{line.host}/killed/push{point}"
    killed_when(line, point, lambda: push(box, target, home, Access()))
    push(box, target, home, Access())
    assert line.sent < WINDOWS * MIB + MIB + HEADERS, "more than one window was sent twice"
    assert [path for path in home.downloads.iterdir() if path.suffix == ".json"] == []


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_pull_goes_on(point: int, line: Wire, box: Box, home: HomeLayout, tmp_path: Path) -> None:
    target = f"oci://{line.host}/killed/pull{point}"
    push(box, target, home, Access())
    line.came = 0
    mine = HomeLayout(home.root / "mine")
    killed_when(line, point, lambda: pull.obtain(Order(address=target), mine))
    assert not list(mine.boxes.glob("*"))
    got, _ = pull.obtain(Order(address=target), mine)
    assert is_whole(got, tmp_path)
    assert line.came < WINDOWS * MIB + MIB + HEADERS, "more than one window came twice"
    assert list(mine.downloads.iterdir()) == []


def test_cut_connections_are_taken_up(line: Wire, box: Box, home: HomeLayout, tmp_path: Path) -> None:
    target = f"oci://{line.host}/cut"
    line.cut_after += [MIB // 2, MIB, MIB, MIB // 3]
    push(box, target, home, Access())
    assert line.cut_after == []
    line.cut_after += [MIB // 2, MIB, MIB, MIB // 3]
    mine = HomeLayout(home.root / "mine")
    assert is_whole(pull.obtain(Order(address=target), mine)[0], tmp_path)
    assert line.cut_after == []


def test_a_registry_that_breaks_off_all_the_time_is_given_up(line: Wire, box: Box, home: HomeLayout) -> None:
    target = f"oci://{line.host}/gone"
    push(box, target, home, Access())
    line.cut_after += [20_000] * 200
    with pytest.raises(RegistryError) as caught:
        pull.obtain(Order(address=target), HomeLayout(home.root / "mine"))
    assert "goes on from where this one ended" in caught.value.hint


@pytest.mark.parametrize("calls", [("pwrite",), ("fdatasync",), ("rename", "replace", "unlink")])
def test_killed_while_it_writes(
    calls: tuple[str, ...], server: Registry, box: Box, home: HomeLayout, tmp_path: Path
) -> None:
    from tests.unit.killed_child import killed_at

    target = server.at("written")
    push(box, target, home, Access())
    mine = HomeLayout(home.root / "mine")
    for step in (1, 3, 5):
        killed_at(step, lambda: pull.obtain(Order(address=target), mine), calls)
    assert is_whole(pull.obtain(Order(address=target), mine)[0], tmp_path)


def test_a_journal_that_lies_is_not_believed(
    server: Registry, box: Box, home: HomeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = server.at("journal")
    push(box, target, home, Access())
    mine = HomeLayout(home.root / "mine")

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(qcow2_layout, "finish", broken)
        with pytest.raises(OSError, match="Input/output"):
            pull.obtain(Order(address=target), mine)
    (journal,) = mine.downloads.glob("*.windows")
    journal.write_text('[0, 0, "zz"]\n[9, 9, "ff"]\n{}\nnonsense\n[0, 1, "01"]\n' + journal.read_text()[:-9])
    assert is_whole(pull.obtain(Order(address=target), mine)[0], tmp_path)


def test_a_full_disk_is_told_and_leaves_the_store_alone(
    server: Registry, box: Box, home: HomeLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = server.at("full")
    push(box, target, home, Access())
    mine = HomeLayout(home.root / "mine")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(NoSpace):
            pull.obtain(Order(address=target), mine)
    assert not list(mine.boxes.glob("*"))
    assert pull.obtain(Order(address=target), mine)[1]
