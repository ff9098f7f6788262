from __future__ import annotations

from pathlib import Path

from vmctl import iso


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    files = {"a": b"", "meta-data": b"\x00\xff\n", "one/long name.with dots": b"x" * 5000, "one/two/b": b"b"}
    path = tmp_path / "image.iso"
    path.write_bytes(iso.image("label", files))
    assert iso.read(path) == files
    assert path.read_bytes()[16 * 2048 + 40 :][:32].rstrip() == b"label"


def test_what_is_no_image_has_no_files(tmp_path: Path) -> None:
    path = tmp_path / "image.iso"
    path.write_bytes(iso.image("label", {"a": b"a"})[:40000])
    assert iso.read(path) == {}
    path.write_bytes(b"")
    assert iso.read(path) == {}
