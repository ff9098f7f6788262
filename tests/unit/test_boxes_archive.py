from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.box_archives import add, tarred, written
from vmctl import process
from vmctl.boxes import archive, archive_members
from vmctl.boxes.archive import BadArchive, UnpackLimits
from vmctl.errors import VmctlError

MEMBERS = {"metadata.json": b'{"provider": "libvirt"}', "box.img": b"QFI\xfb" + bytes(300_000) + b"end"}


def unpack(tmp_path: Path, data: bytes, limits: UnpackLimits | None = None) -> dict[str, bytes]:
    into = tmp_path / "out"
    names = archive.unpack(written(tmp_path / "a.box", data), into, name="a.box", limits=limits)
    return {str(name): (into / name).read_bytes() for name in names}


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return target.getvalue()


def plain_tar(members: dict[str, bytes]) -> bytes:
    return tarred(members, mode="w")


@pytest.mark.parametrize(
    "pack",
    [
        plain_tar,
        tarred,
        lambda members: lzma.compress(plain_tar(members)),
        lambda members: bz2.compress(plain_tar(members)),
        lambda members: zstd.compress(plain_tar(members)),
        lambda members: tarred(members, mode="w", form=tarfile.GNU_FORMAT),
        lambda members: tarred(members, mode="w", form=tarfile.USTAR_FORMAT),
        zipped,
        lambda members: zipped(members, zipfile.ZIP_STORED),
    ],
    ids=["tar", "gzip", "xz", "bzip2", "zstd", "gnu", "ustar", "zip", "zip-stored"],
)
def test_every_container_unpacks(tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    data = pack(MEMBERS)
    assert archive.is_archive(written(tmp_path / "x", data))
    assert unpack(tmp_path, data) == MEMBERS


def test_zeros_become_holes_and_files_are_private(tmp_path: Path) -> None:
    unpack(tmp_path, tarred({"disk": bytes(64 * 1024**2)}))
    made = (tmp_path / "out" / "disk").stat()
    assert made.st_size == 64 * 1024**2
    assert made.st_blocks == 0
    assert stat.S_IMODE(made.st_mode) == 0o600


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_sparse_members_of_gnu_tar(tmp_path: Path, form: str) -> None:
    disk = tmp_path / "disk.img"
    with disk.open("wb") as stream:
        stream.write(b"first")
        stream.seek(5_000_000)
        stream.write(b"last")
    packed = tmp_path / "s.box"
    process.run(["tar", "-C", tmp_path, f"--format={form}", "-Sczf", packed, "./disk.img"])
    assert unpack(tmp_path, packed.read_bytes()) == {"disk.img": disk.read_bytes()}


def test_two_gzip_streams_and_padding(tmp_path: Path) -> None:
    data = plain_tar(MEMBERS)
    import gzip

    assert unpack(tmp_path, gzip.compress(data[:700]) + gzip.compress(data[700:]) + bytes(2000)) == MEMBERS


def test_links_inside_become_files(tmp_path: Path) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as made:
        add(made, "link", type=tarfile.SYMTYPE, linkname="d/../d/disk")
        add(made, "d/disk", b"data")
        add(made, "d/hard", type=tarfile.LNKTYPE, linkname="d/disk")
    assert unpack(tmp_path, target.getvalue()) == dict.fromkeys(("link", "d/disk", "d/hard"), b"data")
    assert not (tmp_path / "out" / "link").is_symlink()


def one(name: str, data: bytes = b"", **fields: object) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as made:
        add(made, name, data, **fields)
    return target.getvalue()


def two(first: str, second: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as made:
        add(made, first, b"1")
        add(made, second, b"2")
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (one("/etc/passwd", b"x"), "member '/etc/passwd': the name is absolute"),
        (one("../up", b"x"), "member '../up': the name leads out of the archive"),
        (one("a/../../up", b"x"), "leads out of the archive"),
        (one("a\\b", b"x"), "invalid file name"),
        (one("dev", type=tarfile.CHRTYPE), "member 'dev': it is a character device"),
        (one("dev", type=tarfile.BLKTYPE), "block device"),
        (one("pipe", type=tarfile.FIFOTYPE), "named pipe"),
        (one("link", type=tarfile.SYMTYPE, linkname="/etc/shadow"), "the link leads out of the archive"),
        (one("link", type=tarfile.SYMTYPE, linkname="../x"), "the link leads out of the archive"),
        (one("d/link", type=tarfile.SYMTYPE, linkname="../../x"), "the link leads out of the archive"),
        (one("link", type=tarfile.LNKTYPE, linkname="/etc/shadow"), "the link leads out of the archive"),
        (one("link", type=tarfile.SYMTYPE, linkname="absent"), "links to 'absent', which is not a file of the archive"),
        (one("link", type=tarfile.SYMTYPE, linkname="link"), "links to 'link', which is not a file"),
        (two("a", "a"), "member 'a': there are two of that name"),
        (two("a", "./a"), "there are two of that name"),
        (two("a", "a/b"), "'a' is a file and a directory"),
        (two("a/b", "a"), "there are two of that name"),
        (zipped({"../up": b"x"}), "leads out of the archive"),
        (zipped({"/abs": b"x"}), "absolute"),
        (plain_tar({}), "it holds no files"),
        (b"<!DOCTYPE html><html>Not found</html>" + bytes(600), "the tar archive is damaged"),
        (b"", "the tar archive is damaged"),
    ],
)
def test_what_no_box_may_hold(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(BadArchive) as caught:
        unpack(tmp_path, data)
    assert words in caught.value.details
    assert caught.value.brief == "a.box cannot be unpacked"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.box"]


def test_a_zip_with_a_symbolic_link_out(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.writestr(member, "/etc/shadow")
    with pytest.raises(BadArchive, match="link leads out"):
        unpack(tmp_path, target.getvalue())


def test_bombs_are_stopped_before_they_are_written(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="unpacks to more than 1000 bytes"):
        unpack(tmp_path, tarred({"a": bytes(600), "b": bytes(600)}), UnpackLimits(size=1000))
    with pytest.raises(BadArchive, match="more than 2 members"):
        unpack(tmp_path, tarred({"a": b"", "b": b"", "c": b""}), UnpackLimits(members=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.box"]


def test_a_zip_with_a_member_without_a_name(tmp_path: Path) -> None:
    data = zipped({"a": b"x", "b": b"y"}).replace(b"\0a", b"\0\0")
    with pytest.raises(BadArchive, match="a member has no name"):
        unpack(tmp_path, data)


def test_a_zip_that_lies_about_a_size(tmp_path: Path) -> None:
    data = zipped({"disk": bytes(100_000)})
    lying = data.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != data
    with pytest.raises(BadArchive):
        unpack(tmp_path, lying)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_headers_can_not_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    head = tarfile.TarInfo("x")
    head.type, head.size = kind, archive_members.HEADER_BUDGET * 4
    data = lzma.compress(head.tobuf(tarfile.GNU_FORMAT) + b"a" * head.size)
    with pytest.raises(BadArchive, match="header is longer"):
        unpack(tmp_path, data)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("pack", [plain_tar, tarred, lambda m: zstd.compress(plain_tar(m)), zipped])
def test_truncated_archives(tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes], keep: float) -> None:
    members = {name: hashlib.shake_128(name.encode()).digest(50_000) for name in "ab"}
    data = pack(members)
    if pack is plain_tar:
        data = data.rstrip(b"\0")  # its last blocks are padding that may be missing
    with pytest.raises(BadArchive):
        unpack(tmp_path, data[: int(len(data) * keep)])
    assert not (tmp_path / "out").exists()


def test_a_tar_cut_between_two_members(tmp_path: Path) -> None:
    data = plain_tar({"a": bytes(512), "b": bytes(512)})
    with pytest.raises(BadArchive, match="ends early"):
        unpack(tmp_path, data[:1024])


def test_a_damaged_checksum_at_the_end(tmp_path: Path) -> None:
    data = bytearray(tarred(MEMBERS))
    data[-6] ^= 1
    with pytest.raises(BadArchive, match="damaged"):
        unpack(tmp_path, bytes(data))


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vmctl.boxes.streams.copy", full)
    with pytest.raises(VmctlError, match="became full while trying to unpack"):
        unpack(tmp_path, tarred(MEMBERS))
    assert not (tmp_path / "out").exists()


SEEDS = [plain_tar(MEMBERS)[:3000] + bytes(1024), tarred({"a": b"x" * 100}), zipped({"a": b"x" * 100, "b/c": b"y"})]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=12)), max_size=6),
    tail=st.binary(max_size=600),
)
def test_damage_is_told_and_nothing_escapes(
    tmp_path_factory: pytest.TempPathFactory, seed: bytes, edits: list[tuple[int, bytes]], tail: bytes
) -> None:
    top = tmp_path_factory.mktemp("fuzz")
    data = bytearray(seed)
    for place, patch in edits:
        start = place % len(data)
        data[start : start + len(patch)] = patch
    try:
        names = archive.unpack(written(top / "a.box", bytes(data) + tail), top / "out", name="a.box")
    except VmctlError:
        assert [path.name for path in top.iterdir()] == ["a.box"]
    else:
        root = (top / "out").resolve()
        assert all((root / name).resolve().is_relative_to(root) for name in names)
        assert sorted(path.name for path in top.iterdir()) == ["a.box", "out"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=1500))
def test_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    top = tmp_path_factory.mktemp("fuzz")
    with pytest.raises(BadArchive):
        archive.unpack(written(top / "a.box", data), top / "out", name="a.box")
