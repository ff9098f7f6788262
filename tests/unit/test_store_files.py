import os
import resource
import stat
from pathlib import Path

import pytest

from vmctl.errors import VmctlError
from vmctl.store import files


def test_write_is_private_and_makes_parents(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    files.write(path, "text")
    assert path.read_text() == "text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, "old")

    def fill(stream: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write_with(path, fill)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_json_round_trip(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"b": [1, "ü"], "a": None})
    assert files.read_json(tmp_path / "x.json") == {"b": [1, "ü"], "a": None}
    assert files.read_json(tmp_path / "missing.json") is None


def test_json_without_end_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"[1]" + b" " * 8)
    assert files.read_json(tmp_path / "x.json", most=11) == [1]
    with pytest.raises(VmctlError, match="longer than 10 bytes"):
        files.read_json(tmp_path / "x.json", most=10)


@pytest.mark.parametrize("content", [b"\0\0\0\0", b"\xff\xfe", b"", b"null"])
def test_damaged_json_is_an_error_with_a_way_out(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(VmctlError, match="is damaged") as caught:
        files.read_json(path)
    assert caught.value.hint.startswith("mv ")


def test_remove_tree_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "file").write_text("x")
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    (doomed / "link").symlink_to(tmp_path / "keep")
    files.remove_tree(doomed)
    files.remove_tree(doomed)
    assert not doomed.exists()
    assert (tmp_path / "keep" / "file").exists()


def deepen(root: Path, depth: int) -> None:
    """A path that is longer than any that the kernel takes, with a file at each level."""
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.mkdir("directory", dir_fd=here)
        inner = os.open("directory", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def test_remove_tree_takes_any_depth_with_few_descriptors(tmp_path: Path) -> None:
    deepen(tmp_path / "deep", 5000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        files.remove_tree(tmp_path / "deep")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_remove_tree_removes_wide_and_odd_trees_and_leaves_files_and_links_alone(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / "wide" / f"{number}" / "same" / "same").mkdir(parents=True)
        (tmp_path / "wide" / f"{number}" / "same" / "f\udce9\n").write_text("x")
    (tmp_path / "wide" / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "wide" / "pipe")
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "wide")
    for name in ("file", "link"):
        files.remove_tree(tmp_path / name)
    assert (tmp_path / "wide" / "7" / "same").is_dir()
    files.remove_tree(tmp_path / "wide")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]
