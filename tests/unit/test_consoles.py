"""Consoles that the hypervisor keeps, in the file where all others are."""

from __future__ import annotations

from pathlib import Path

from vmctl.driver import Host, Tag
from vmctl.errors import VmctlError
from vmctl.lifecycle import consoles
from vmctl.testing import FakeDriver

TAG = Tag(project="0" * 32, machine="web", version="0")


class Keeping(FakeDriver):
    """A hypervisor with these answers."""

    answers: tuple[bytes | None, ...] = ()

    def console(self, name: str, tag: Tag) -> bytes:
        first, *self.answers = self.answers  # type: ignore[assignment]  # a list will do
        if first is None:
            raise VmctlError("no console yet")
        return first


def test_what_is_told_whole_or_in_parts_is_kept_once(tmp_path: Path) -> None:
    driver, path = Keeping(Host(home=tmp_path)), tmp_path / "console.log"
    driver.answers = (None, b"one\n", b"one\ntwo\n", b"", b"three\n")
    seen = []
    for _ in driver.answers:
        consoles.fetch(driver, "web", TAG, path)
        seen.append(path.read_bytes() if path.exists() else None)
    assert seen == [None, b"one\n", b"one\ntwo\n", b"one\ntwo\n", b"one\ntwo\nthree\n"]


def test_a_file_that_the_hypervisor_writes_is_left_alone(tmp_path: Path) -> None:
    consoles.fetch(FakeDriver(Host(home=tmp_path)), "web", TAG, tmp_path / "console.log")
    assert not (tmp_path / "console.log").exists()
