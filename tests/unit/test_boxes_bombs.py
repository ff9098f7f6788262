"""Boxes that are small to fetch and would cost hours or the disk: refused, or paid for in proportion to their size."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import struct
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.box_archives import tarred, written
from tests.unit.box_images import CLUSTER, MIB, qcow2, raw
from vmctl import interrupt, process
from vmctl.boxes import archive, compression, foreign, image, ovf, streams
from vmctl.boxes.adding import add
from vmctl.boxes.archive import BadArchive
from vmctl.boxes.checksum import digest_of
from vmctl.boxes.image import NotAnImage
from vmctl.boxes.request import Request
from vmctl.boxes.space import NoSpace
from vmctl.errors import Interrupted, VmctlError
from vmctl.layout import HomeLayout
from vmctl.spec import GIB

LONG = 4_000_000


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "vmctl")


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """A disk of 100 MiB, as far as vmctl can tell; how full it became at most."""
    total, most = 100 * MIB, [0]

    def usage(_directory: Path) -> object:
        used = sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("*") if file.is_file())
        most[0] = max(most[0], used)
        return shutil._ntuple_diskusage(total=total, used=used, free=max(0, total - used))

    monkeypatch.setattr("vmctl.boxes.space.shutil.disk_usage", usage)
    return lambda: most[0]


def pax(payload: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A tar whose first header is this pax header."""
    head = tarfile.TarInfo("x")
    head.type, head.size = kind, len(payload)
    padding = bytes(-len(payload) % 512)
    return head.tobuf(tarfile.USTAR_FORMAT) + payload + padding + tarred({"a": b"x"}, mode="w")


def sparse_map(blocks: bytes, *, size: int = GIB) -> bytes:
    """A tar with one sparse member in GNU's format 1.0, whose map is ``blocks``."""
    member = tarfile.TarInfo("GNUSparseFile.0/disk")
    member.size = len(blocks)
    stated = {"major": "1", "minor": "0", "name": "disk", "realsize": str(size)}
    member.pax_headers = {f"GNU.sparse.{key}": value for key, value in stated.items()}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as made:
        made.addfile(member, io.BytesIO(blocks))
    return target.getvalue()


BACKWARDS = b"".join(b"%d\n1\n" % (place * 10) for place in range(50_000, 0, -1))
HEADERS = {
    "digits": pax(b"1" * LONG),
    "digits in a record": pax(b"%d comment=%s\n" % (LONG + 17, b"9" * LONG)),
    "keywords that overlap": pax(b"2 " * (LONG // 2) + b"="),
    "a global header": pax(b"2 " * (LONG // 2) + b"=", tarfile.XGLTYPE),
    "a length beyond": pax(b"999 a=b\n"),
    "no length": pax(b"0 a=b\n"),
    "a map without lines": sparse_map(b"1\n" + b"7" * LONG),
    "a map backwards": sparse_map((b"50000\n" + BACKWARDS).ljust(2 * MIB, b"\0")),
    "a map that is longer": sparse_map(b"1\n0\n99\n".ljust(1024, b"\0"), size=10),
}


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS)
def test_tar_headers_take_time_in_proportion(tmp_path: Path, data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(BadArchive):
        archive.unpack(written(tmp_path / "a.box", data), tmp_path / "out", name="a.box")
    assert time.process_time() - began < 5


def test_pax_headers_of_all_kinds_are_read(tmp_path: Path) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "größe"}) as made:
        member = tarfile.TarInfo("directory/" * 20 + "ü" * 60)
        member.size, member.pax_headers = 3, {"mtime": "1.5", "SCHILY.xattr.user.x": "a=b\nc", "hdrcharset": "BINARY"}
        made.addfile(member, io.BytesIO(b"abc"))
    (name,) = archive.unpack(written(tmp_path / "a.box", target.getvalue()), tmp_path / "out", name="a.box")
    assert name.name == "ü" * 60
    assert (tmp_path / "out" / name).read_bytes() == b"abc"


def test_a_tiny_box_of_300_gib_is_refused_at_once(tmp_path: Path) -> None:
    with (tmp_path / "box.img").open("wb") as stream:
        stream.truncate(300 * GIB)
    process.run(["tar", "-C", tmp_path, "-Sczf", tmp_path / "a.box", "./box.img"])
    assert (tmp_path / "a.box").stat().st_size < 10_000
    began = time.monotonic()
    with pytest.raises(BadArchive, match=f"unpacks to more than {32 * GIB} bytes"):
        archive.unpack(tmp_path / "a.box", tmp_path / "out", name="a.box")
    assert time.monotonic() - began < 5


def test_how_much_may_come_out_grows_with_what_there_is() -> None:
    assert [streams.bound(size) for size in (0, 16 * MIB, 100 * MIB, 10 * GIB)] == [
        32 * GIB, 32 * GIB, 2000 * 100 * MIB, 1024 * GIB,
    ]  # fmt: skip


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_compressed_image_is_bounded_too(
    tmp_path: Path, home: HomeLayout, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmctl.boxes.streams.UNQUESTIONED", 2 * MIB)
    monkeypatch.setattr("vmctl.boxes.streams.RATIO", 2)
    with pytest.raises(NotAnImage) as caught:
        add(Request(address=str(written(tmp_path / "disk.gz", pack(raw(size=16 * MIB))))), home)
    assert caught.value.details == "It unpacks to more than 2.0 MiB."


def tarred_image() -> bytes:
    return tarred({"metadata.json": b'{"provider": "libvirt", "format": "qcow2"}', "box.img": b"x" * 300 * MIB})


def zipped_image() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("disk.img", b"x" * 300 * MIB)
    return target.getvalue()


@pytest.mark.parametrize(
    "pack", [tarred_image, zipped_image, lambda: gzip.compress(b"x" * 300 * MIB, 1)], ids=["tar", "zip", "gzip"]
)
def test_what_unpacks_leaves_the_reserve_of_the_disk(
    tmp_path: Path, home: HomeLayout, pack: Callable[[], bytes], small_disk: Callable[[], int]
) -> None:
    packed = written(tmp_path / "a.box", pack())
    with pytest.raises(NoSpace, match="not enough disk space") as caught:
        add(Request(address=str(packed)), home)
    assert "5.0 MiB of that is kept free" in caught.value.details
    assert 40 * MIB < small_disk() <= 95 * MIB
    assert list(home.boxes.iterdir()) == []


def test_a_conversion_leaves_the_reserve_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "disk.vmdk", tmp_path / "disk.qcow2"
    (tmp_path / "disk.raw").write_bytes(b"x" * 16 * MIB)
    argv: list[str | Path] = [
        "qemu-img",
        "convert",
        "-O",
        "vmdk",
        "-o",
        "subformat=streamOptimized",
        tmp_path / "disk.raw",
        source,
    ]
    process.run(argv)
    usage = shutil._ntuple_diskusage(total=100 * MIB, used=91 * MIB, free=9 * MIB)
    monkeypatch.setattr("vmctl.boxes.space.shutil.disk_usage", lambda _directory: usage)
    with pytest.raises(NoSpace, match="not enough disk space to convert x"):
        foreign.to_qcow2(source, target, name="x")
    assert target.stat().st_size <= 4 * MIB
    monkeypatch.undo()
    foreign.to_qcow2(source, target, name="x")
    assert image.inspect(target, "x", boots=False).virtual_size == 16 * MIB


def test_a_disk_that_nobody_has_a_use_for(tmp_path: Path) -> None:
    with pytest.raises(NotAnImage, match=f"virtual size is {1 << 60} bytes"):
        image.inspect(written(tmp_path / "x", qcow2(size=1 << 60)), "x")


def entangled(*, entries: int, step: int) -> bytes:
    """A qcow2 whose L1 table has so many entries, ``step`` bytes apart from the first table on."""
    made = bytearray(qcow2())
    l1 = len(made)
    struct.pack_into(">IQ", made, 36, entries, l1)
    return bytes(made) + b"".join(struct.pack(">Q", 2 * CLUSTER + step * number) for number in range(entries))


@pytest.mark.parametrize(("step", "words"), [(0, "two parts of the disk share a table"), (512, "a table is misplaced")])
def test_tables_that_overlap_are_refused_at_once(tmp_path: Path, step: int, words: str) -> None:
    path = written(tmp_path / "x", entangled(entries=500_000 if not step else 100, step=step))
    began = time.process_time()
    with pytest.raises(NotAnImage) as caught:
        image.inspect(path, "x")
    assert words in caught.value.details
    assert time.process_time() - began < 5


def test_millions_of_empty_streams_take_time_in_proportion(tmp_path: Path) -> None:
    path = written(tmp_path / "x.gz", gzip.compress(b"") * 100_000 + gzip.compress(b"end"))
    began = time.process_time()
    with path.open("rb") as stream:
        found = compression.sniff(stream.read(compression.SNIFFED))
        stream.seek(0)
        assert found is not None
        assert compression.opened(stream, found).read() == b"end"
    assert time.process_time() - began < 5


def test_hashing_ends_at_an_interruption(tmp_path: Path, clean_interrupt: None) -> None:
    with (tmp_path / "x").open("wb") as stream:
        stream.truncate(200 * GIB)
    threading.Timer(0.3, interrupt.request).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        digest_of(tmp_path / "x")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "<a>" * 300_000 + "</a>" * 300_000,
        '<!DOCTYPE x [<!ENTITY a "b">]><Envelope>&a;</Envelope>',
        "<Envelope " + " ".join(f'a{number}="1"' for number in range(50_000)) + "/>",
    ],
    ids=["deep", "entities", "attributes"],
)
def test_hostile_descriptors_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ovf.BadOvf):
        ovf.read(written(tmp_path / "x.ovf", text.encode()))


def test_long_numbers_in_a_descriptor_count_as_none(tmp_path: Path) -> None:
    digits = "9" * 5000
    item = f"<Item><ResourceType>4</ResourceType><AllocationUnits>byte * 2^{digits}</AllocationUnits>"
    text = f'<Envelope><File id="f" href="d.vmdk"/><Disk diskId="d" fileRef="f"/>{item}<VirtualQuantity>{digits}'
    tail = "</VirtualQuantity></Item></Envelope>"
    found = ovf.read(written(tmp_path / "x.ovf", (text.replace("<Envelope>", "<Envelope xmlns='x'>") + tail).encode()))
    assert (found.disks, found.memory) == (("d.vmdk",), None)


def test_a_million_members_are_refused(tmp_path: Path) -> None:
    data = tarred({f"f{number}": b"" for number in range(1100)})
    with pytest.raises(VmctlError, match="more than 1000 members"):
        archive.unpack(written(tmp_path / "a.box", data), tmp_path / "out", name="a.box")
