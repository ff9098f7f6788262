"""The door to vmctl's own files: what is not ours is refused, and what is ours is ours alone."""

from __future__ import annotations

import ast
import os
import re
import stat
from pathlib import Path

import pytest

from vmctl.store import door, files
from vmctl.store.door import ForeignFile

SOURCES = Path(door.__file__).parents[1]
STRANGER = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@as_root
@pytest.mark.parametrize("given", ["home", "projects", "projects/a", "projects/a/file"])
def test_what_somebody_else_owns_is_refused(private_home: Path, given: str) -> None:
    path = private_home / "projects" / "a" / "file"
    files.write(path, "x")
    owned = private_home if given == "home" else private_home / given
    os.chown(owned, STRANGER, STRANGER)
    for act in (lambda: files.read(path), lambda: files.append(path, "y"), lambda: files.replace_content(path, "y")):
        with pytest.raises(ForeignFile, match="is not what vmctl made") as caught:
            act()
        assert caught.value.details == f"it belongs to the user with the number {STRANGER}"
        assert caught.value.hint == f"ls -ld -- {owned}"
    assert path.read_text() == "x"


@as_root
def test_nothing_is_made_or_removed_in_a_directory_of_somebody_else(private_home: Path) -> None:
    files.write(private_home / "projects/file", "x")
    os.chown(private_home / "projects", STRANGER, STRANGER)
    for act in (
        lambda: files.write(private_home / "projects/new", "x"),
        lambda: files.remove(private_home / "projects/file"),
        lambda: files.make_directory(private_home / "projects/a/b"),
        lambda: files.remove_tree(private_home / "projects/file"),
        lambda: files.rename(private_home / "projects/file", "other"),
        lambda: files.names(private_home / "projects"),
    ):
        with pytest.raises(ForeignFile):
            act()
    assert [entry.name for entry in (private_home / "projects").iterdir()] == ["file"]


def test_directories_that_others_could_write_to_lose_that(private_home: Path) -> None:
    files.write(private_home / "projects/a/file", "x")
    for path in (private_home, private_home / "projects", private_home / "projects/a"):
        path.chmod(0o777)
    files.read(private_home / "projects/a/file")
    for path in (private_home, private_home / "projects", private_home / "projects/a"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.mark.parametrize("kind", ["fifo", "link", "loop", "directory", "socket", "device"])
def test_what_is_no_plain_file_is_refused_at_once(private_home: Path, tmp_path: Path, kind: str) -> None:
    path = private_home / "projects/file"
    files.make_directory(path.parent)
    (tmp_path / "other").write_text("other's")
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to(tmp_path / "other")
        case "loop":
            path.symlink_to(path)
        case "directory":
            path.mkdir()
        case "socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)
        case "device":
            if os.geteuid() != 0:
                pytest.skip("only root makes devices")
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for act in (lambda: files.read(path), lambda: files.append(path, "y"), lambda: files.replace_content(path, "y")):
        with pytest.raises((ForeignFile, IsADirectoryError)):
            act()
    assert (tmp_path / "other").read_text() == "other's"


# Who opens files by path beside the door, and why that is no way in.
BESIDE = {
    "store/door.py": "it is the door",
    "store/host_ports.py": "/proc/net and /proc/PID: who listens",
    "store/files.py": "by descriptors of the door",
    "store/places.py": "projects' directories: only to see what they are",
}
OPENS = re.compile(r"\b(os\.open|open|io\.open)$|\.(read_text|read_bytes|write_text|write_bytes|touch|mkdir|unlink)$")


def test_in_the_store_nothing_opens_files_but_the_door() -> None:
    found = {
        f"store/{path.name}"
        for path in (SOURCES / "store").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and OPENS.search(ast.unparse(node.func))
    }
    assert found == set(BESIDE)
