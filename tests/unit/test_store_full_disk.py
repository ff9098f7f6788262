"""What of a full disk stops a command, and what does not: /dev/full refuses every write as a full disk does."""

import errno
import os
from pathlib import Path

import pytest

from vmctl.store import files, locks
from vmctl.store.records import Journal

FULL = Path("/dev/full")


def test_the_error_names_the_file(tmp_path: Path) -> None:
    def fill(_stream: object) -> None:
        with FULL.open("wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(OSError, match="No space left on device") as caught:
        files.write_with(tmp_path / "x.json", fill)
    assert caught.value.filename == str(tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_read_only_file_system_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    for name in ("replace", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        files.write(tmp_path / "x.json", "{}")
    assert caught.value.filename == str(tmp_path / "x.json")


def test_a_journal_does_without_an_entry(tmp_path: Path) -> None:
    (tmp_path / "journal").symlink_to(FULL)
    Journal(tmp_path / "journal").write("destroy", "begin")
    assert FULL.is_char_device()


def test_a_lock_is_held_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "lock.holder").symlink_to(FULL)
    with locks.hold(tmp_path / "lock", "machine web"):
        assert (tmp_path / "lock").exists()
