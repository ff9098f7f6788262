"""Layers of container images into one root file system: by the OCI specification, and against hostile ones."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from vmctl.boxes import archive_members
from vmctl.boxes.compression import DamagedStream
from vmctl.boxes.oci import root_image
from vmctl.boxes.oci.root_image import RootImage, RootTree
from vmctl.boxes.oci.window_layers import Senseless
from vmctl.boxes.space import Room

Member = tuple[str, Any]
LINK, HARD, DIRECTORY = "->", "=", "/"
"""How a test writes what a member is: text is a file's content."""


def layer(path: Path, *members: Member, **facts: dict[str, Any]) -> Path:
    """A layer as a tar in a file; a member is its path and content, ("->", TARGET), ("=", TARGET) or "/"."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, what in members:
            member, data = tarfile.TarInfo(name), b""
            member.mode = 0o644
            if what == DIRECTORY:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, bytes):
                member.type = what
            elif isinstance(what, tuple):
                member.type = tarfile.SYMTYPE if what[0] == LINK else tarfile.LNKTYPE
                member.linkname = what[1]
            else:
                data = what.encode()
                member.size = len(data)
            for key, value in facts.get(name, {}).items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    return path


def tree(tmp_path: Path, *layers: tuple[Member, ...]) -> RootTree:
    made = RootTree()
    for number, members in enumerate(layers):
        with layer(tmp_path / f"{number}.tar", *members).open("rb") as stream:
            made.lay(number, archive_members.headers(stream))
    return made


def paths(made: RootTree) -> list[str]:
    return [path for path, _ in made.walk()]


def test_layers_lie_above_each_other(tmp_path: Path) -> None:
    made = tree(
        tmp_path,
        (("./etc/", DIRECTORY), ("etc/motd", "old"), ("a", "file"), ("d/x", "1")),
        (("etc/motd", "newer"), ("./a/", DIRECTORY), ("a/b", "1"), ("d", (LINK, "/etc"))),
    )
    assert paths(made) == ["a", "a/b", "d", "etc", "etc/motd"]
    motd, link = made.find("etc/motd"), made.find("d")
    assert motd is not None
    assert link is not None
    assert (motd.layer, motd.size, link.link) == (1, 5, "/etc")


def test_whiteouts(tmp_path: Path) -> None:
    below = (("d/one", "1"), ("d/two", "2"), ("e/one", "1"), ("e/sub/x", "1"), ("gone/x", "1"), ("kept", "1"))
    above = (("d/.wh.one", ""), ("e/new", "1"), ("e/.wh..wh..opq", ""), (".wh.gone", ""), ("no/.wh.such", ""))
    assert paths(tree(tmp_path, below, above)) == ["d", "d/two", "e", "e/new", "kept"], "in whichever order"


def test_what_a_whiteout_takes_away_comes_again_in_the_same_layer(tmp_path: Path) -> None:
    made = tree(tmp_path, (("d/old", "1"),), (("d/", DIRECTORY), ("d/new", "2"), (".wh.d", "")))
    assert paths(made) == ["d", "d/new"]


def test_a_directory_again_keeps_what_is_in_it(tmp_path: Path) -> None:
    made = tree(tmp_path, (("d/one", "1"),), (("d/", DIRECTORY), ("./", DIRECTORY)))
    assert paths(made) == ["d", "d/one"]


HOSTILE: dict[str, tuple[tuple[Member, ...], str]] = {
    "an absolute path": ((("/etc/passwd", "x"),), "leads out"),
    "up": ((("a/../../x", "x"),), "leads out"),
    "through a link": ((("a", (LINK, "/")), ("a/etc/passwd", "x")), "below something that is not a directory"),
    "below a file": ((("a", "x"), ("a/b", "x")), "below something that is not a directory"),
    "a hard link out": ((("a", (HARD, "../../etc/shadow")),), "not there"),
    "a hard link to nothing": ((("a", (HARD, "b")),), "not there"),
    "a hard link to a directory": ((("d/", DIRECTORY), ("a", (HARD, "d"))), "not there"),
    "a hard link to the root": ((("a", (HARD, ".")),), "not there"),
    "a device": ((("sda", tarfile.BLKTYPE),), "a device"),
    "a strange kind": ((("x", b"Z"),), "a device"),
    "a long path": ((("a/" * 3000, DIRECTORY),), "leads out"),
    "the root a file": (((".", "x"),), "root is not a directory"),
    "hides nothing": (((".wh.", ""),), "hides nothing"),
    "hides the parent": (((".wh...", ""),), "hides nothing"),
    "a whiteout below a file": ((("a", "x"), ("a/b/.wh.c", "")), ""),
    "a link to nothing": ((("a", (LINK, "")),), "a link to nothing"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    members, expected = HOSTILE[case]
    if not expected:  # harmless after all: a file, or a whiteout of nothing
        tree(tmp_path, members)
        return
    with pytest.raises(Senseless, match=expected):
        tree(tmp_path, members)


def test_numbers_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_image, "MOST_ENTRIES", 10)
    with pytest.raises(Senseless, match="more than 10 files"):
        tree(tmp_path, tuple((str(number), "") for number in range(11)))
    monkeypatch.setattr(root_image, "MOST_NAMES", 100)
    with pytest.raises(Senseless, match="too long names"):
        tree(tmp_path, (("a" * 101, ""),))


def test_data_is_no_part_of_a_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_members, "HEADER_BUDGET", 64 * 1024)
    path = layer(tmp_path / "0.tar", ("a", "x" * 3_000_000), ("b/", DIRECTORY), ("c", "y" * 512), ("d", "z" * 200_000))
    with path.open("rb") as stream:
        found = [(member.name, member.size, member.offset_data) for member in archive_members.headers(stream)]
    data = path.read_bytes()
    assert [name for name, _, _ in found] == ["a", "b", "c", "d"]
    assert [data[at : at + 1] for _, size, at in found if size] == [b"x", b"y", b"z"]


def test_a_layer_that_was_cut(tmp_path: Path) -> None:
    path = layer(tmp_path / "0.tar", ("a", "x" * 5000), ("b", "y"))
    path.write_bytes(path.read_bytes()[:3000])
    with path.open("rb") as stream, pytest.raises(DamagedStream):
        list(archive_members.headers(stream))


def image(tmp_path: Path, *layers: Path) -> tarfile.TarFile:
    work = tmp_path / "work"
    work.mkdir()
    made = RootImage(layers, work, Room(work, "to test"))
    made.write(tmp_path / "image.tar", name="it", arch="x86_64")
    return tarfile.open(tmp_path / "image.tar")


def test_the_image_has_all_that_matters(tmp_path: Path) -> None:
    capability = {"SCHILY.xattr.security.capability": "\x01\x00"}
    facts: dict[str, dict[str, Any]] = {
        "bin/ping": {"pax_headers": capability}, "bin/su": {"mode": 0o4755, "uid": 0, "gid": 5, "mtime": 1.5},
    }  # fmt: skip
    one = layer(
        tmp_path / "0.tar", ("usr/sbin/init", "#!"), ("bin/ping", "ping"), ("bin/su", "su"), ("run", b"6"),
        ("dev/null", tarfile.CHRTYPE), ("bin/link", (LINK, "/usr/sbin/init")), ("opt/hard", (HARD, "bin/su")),
        **facts,
    )  # fmt: skip
    two = layer(tmp_path / "1.tar", ("bin/.wh.su", ""), ("etc/motd", "hello"), ("z-hard", (HARD, "opt/hard")))
    with image(tmp_path, one, two) as made:
        assert made.getnames() == [
            "metadata.yaml", "rootfs", "rootfs/bin", "rootfs/bin/link", "rootfs/bin/ping", "rootfs/etc",
            "rootfs/etc/motd", "rootfs/opt", "rootfs/opt/hard", "rootfs/run", "rootfs/usr", "rootfs/usr/sbin",
            "rootfs/usr/sbin/init", "rootfs/z-hard",
        ]  # fmt: skip
        hard, again = made.getmember("rootfs/opt/hard"), made.getmember("rootfs/z-hard")
        assert (hard.mode, hard.gid, hard.mtime, made.extractfile(hard).read()) == (0o4755, 5, 1, b"su")  # type: ignore[union-attr]
        assert (again.islnk(), again.linkname) == (True, "rootfs/opt/hard"), (
            "its first name is gone, its content is not"
        )
        assert made.getmember("rootfs/bin/ping").pax_headers == capability
        assert made.extractfile("rootfs/etc/motd").read() == b"hello"  # type: ignore[union-attr]
        assert made.getmember("rootfs/bin/link").linkname == "/usr/sbin/init"
        assert made.getmember("rootfs/run").isfifo()


def test_the_same_layers_make_the_same_image(tmp_path: Path) -> None:
    one = layer(tmp_path / "0.tar", ("b", "1"), ("a", "2"), ("sbin/init", "#!"))
    two = layer(tmp_path / "1.tar", ("sbin/init", "#!"), ("a", "2"), ("b", "1"))
    made = []
    for number, path in enumerate((one, two)):
        place = tmp_path / str(number)
        place.mkdir()
        image(place, path).close()
        made.append((place / "image.tar").read_bytes())
    assert made[0] == made[1]


def test_headers_that_would_say_something_else(tmp_path: Path) -> None:
    """A pax header of a layer names another path and size; they are tarfile's business and not copied."""
    evil = {"comment": "x", "path": "sbin/init", "uid": "0", "GNU.sparse.major": "9"}
    one = layer(tmp_path / "0.tar", ("x", "#!"), x={"pax_headers": evil})
    with image(tmp_path, one) as made:
        assert made.getmember("rootfs/sbin/init").pax_headers == {}


def test_a_program_is_no_system(tmp_path: Path) -> None:
    with pytest.raises(Senseless, match="of a program"):
        image(tmp_path, layer(tmp_path / "0.tar", ("bin/sh", "sh")))
