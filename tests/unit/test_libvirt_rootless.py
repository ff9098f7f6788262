"""What keeps an ordinary user from live folders, told with what would change it; the real thing is a guest's day."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmctl import process
from vmctl_libvirt import confined_virtiofsd, rootless, share_locks, share_notes, shares
from vmctl_libvirt.rootless import Obstacle
from vmctl_libvirt.shares import SharedFolder

HERE = Path(__file__)


def files(tmp_path: Path, users: str, groups: str) -> tuple[Path, Path]:
    made = tmp_path / "subuid", tmp_path / "subgid"
    for path, text in zip(made, (users, groups), strict=True):
        path.write_text(text)
    return made


def test_without_virtiofsd(tmp_path: Path) -> None:
    found = rootless.obstacle(tmp_path, None)
    assert found == Obstacle("there is no virtiofsd", rootless.INSTALL)


def test_a_socket_must_have_a_short_path(tmp_path: Path) -> None:
    found = rootless.obstacle(Path("/" + "x" * 80), HERE)
    assert found is not None
    assert "too long a path" in found.reason
    assert len(str(share_locks.socket_path(Path("/" + "x" * 75), "m", "t"))) <= rootless.LONGEST_SOCKET


def test_without_uidmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(program: str, *, package: str = "") -> str:
        raise process.ProgramMissing(f"the program {program!r} is not installed", hint=f"apt-get install {package}")

    monkeypatch.setattr("vmctl_libvirt.rootless.process.find", absent)
    found = rootless.obstacle(Path("/h"), HERE)
    assert found == Obstacle("the program 'newuidmap' is not installed", "apt-get install uidmap")


def test_without_ids_for_the_guests_users_the_hint_gives_some_that_are_free(tmp_path: Path) -> None:
    both = files(tmp_path, "berta:100000:65536\n", "")
    found = rootless._no_ids("anna", 1000, both)
    assert found is not None
    assert found.remedy == "sudo usermod --add-subuids 165536-231071 --add-subgids 100000-165535 anna"
    assert str(both[0]) in found.reason
    one = files(tmp_path, "anna:100000:65536\n", "berta:100000:65536\n")
    found = rootless._no_ids("anna", 1000, one)
    assert found is not None
    assert found.remedy == "sudo usermod --add-subgids 165536-231071 anna"
    assert rootless._no_ids("anna", 1000, files(tmp_path, "anna:1000000:65536\n", "1000:1000000:65536\n")) is None


def test_what_comes_of_the_attempt_is_the_reason(tmp_path: Path) -> None:
    assert rootless._tried(tmp_path, lambda _directory: "") is None
    found = rootless._tried(tmp_path, lambda _directory: "unshare: Operation not permitted")
    assert found is not None
    assert found.reason == "unshare: Operation not permitted"
    assert list(share_locks.place(tmp_path).iterdir()) == []
    share_locks.place(tmp_path).chmod(0o755)
    found = rootless._tried(tmp_path, lambda _directory: "")
    assert found is not None
    assert "not a directory of yours alone" in found.reason


@pytest.mark.parametrize(("name", "off", "on"), rootless.SWITCHES)
def test_what_turns_namespaces_off_is_found(tmp_path: Path, name: str, off: str, on: str) -> None:
    assert rootless._switch(tmp_path) == ""
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text("5000\n")
    assert rootless._switch(tmp_path) == ""
    path.write_text(f"{off}\n")
    assert rootless._switch(tmp_path) == on


def test_the_program_gets_the_folder_and_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "find", lambda: Path("/usr/libexec/virtiofsd"))
    words = rootless.argv("/a,b {within}", (1000, 1000), read_only=True)("--connect-within=30,fd=7")
    assert words[2] == confined_virtiofsd.__file__
    assert words[3].startswith("--within=")
    assert words[6:9] == ["ro", "/usr/libexec/virtiofsd", "--connect-within=30,fd=7"]
    assert confined_virtiofsd.moved(words[9:])[0] == "/a,b {within}"


def test_the_domain_remembers_what_is_shared() -> None:
    folder = SharedFolder(tag="t", host="/it's <a> & b", socket="/s", guest=(1000, 100), read_only=True)
    other = SharedFolder(tag="u", host="/b", socket="/s2", guest=(0, 0))
    elements = [share_notes.attributes(each) for each in (folder, other)]
    assert share_notes.parse(as_libvirt_returns(elements)) == (folder, other)


def as_libvirt_returns(elements: list[dict[str, str]]) -> str:
    from xml.etree import ElementTree as ET

    root = ET.Element(f"{{{share_notes.NAMESPACE}}}shares")
    for each in elements:
        ET.SubElement(root, f"{{{share_notes.NAMESPACE}}}share", each)
    return ET.tostring(root, encoding="unicode")
