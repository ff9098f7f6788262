"""What keeps an ordinary user from live folders, told with what would change it; the real thing is a guest's day."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmctl import process
from vmctl_libvirt import confined_virtiofsd, rootless, share_locks, shares
from vmctl_libvirt.confined_virtiofsd import Row
from vmctl_libvirt.rootless import Obstacle, Range
from vmctl_libvirt.shares import SharedFolder

HERE = Path(__file__)
GIVEN = st.lists(st.integers(1, 70_000), min_size=1, max_size=5).map(
    lambda counts: [(100_000_000 * number, count) for number, count in enumerate(counts, 1)]
)
"""Ranges that do not overlap, nor hold anybody's own id."""
IDS = st.integers(0, 70_000) | st.sampled_from([0, 1000, 65534, 1_000_000])
OWN = st.integers(1, 70_000) | st.just(1_000_000)


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
    elements = [shares.note_attributes(each) for each in (folder, other)]
    assert shares.parse_notes(as_libvirt_returns(elements)) == (folder, other)


def as_libvirt_returns(elements: list[dict[str, str]]) -> str:
    from xml.etree import ElementTree as ET

    root = ET.Element(f"{{{shares.NOTES_NAMESPACE}}}shares")
    for each in elements:
        ET.SubElement(root, f"{{{shares.NOTES_NAMESPACE}}}share", each)
    return ET.tostring(root, encoding="unicode")


def outside(rows: list[Row], inside: int) -> int | None:
    return next((out + inside - start for start, out, count in rows if start <= inside < start + count), None)


@given(own=OWN, ranges=GIVEN)
def test_all_ids_outside_are_the_users_own_or_were_given_to_them(own: int, ranges: list[Range]) -> None:
    rows = rootless.outer_map(own, ranges)
    assert outside(rows, own) == own
    assert sum(count for _, _, count in rows) == 1 + sum(count for _, count in ranges)
    for _, start, count in rows:
        within = [first <= start and start + count <= first + many for first, many in ranges]
        assert any(within) or (start, count) == (own, 1)
    assert disjoint(rows, 0)
    assert disjoint(rows, 1)


@given(guest=IDS, own=OWN, ranges=GIVEN)
def test_only_the_guests_login_user_is_the_user_and_its_root_is_not(guest: int, own: int, ranges: list[Range]) -> None:
    around = rootless.outer_map(own, ranges)
    rows = rootless.inner_map(guest, own, around)
    assert disjoint(rows, 0)
    assert disjoint(rows, 1)
    meant = {inside for inside in (*range(0, 70_000, 997), 0, guest, own, 65534) if outside(rows, inside) == own}
    assert meant == {guest}
    for _, start, count in rows:
        assert any(first <= start and start + count <= first + many for first, _, many in around), "one row of it"


def test_what_podman_users_have() -> None:
    around = rootless.outer_map(1000, [(100_000, 65_536)])
    assert around == [(0, 100_000, 1000), (1000, 1000, 1), (1001, 101_000, 64_536)]
    rows = rootless.inner_map(1000, 1000, around)
    assert [outside(rows, each) for each in (0, 1, 1000, 65_534)] == [65_534, 1, 1000, None]


def test_rows_arrive_as_they_were_sent() -> None:
    rows = rootless.outer_map(1000, [(100_000, 65_536)])
    assert confined_virtiofsd._rows(rootless.map_word(rows)) == rows


def test_the_files_are_read_as_the_set_uid_programs_read_them() -> None:
    text = "anna:100000:65536\n1000:300000:5\n\nanna:x:9\n# anna:1:2\nberta:165536:65536\nanna:900000:1\n"
    assert rootless.id_ranges(text, ("anna", "1000")) == ((100000, 65536), (300000, 5), (900000, 1))
    assert rootless.id_ranges(text, ("carl", "1001")) == ()
    assert rootless.free_range(text) == (900001, 65536)
    assert rootless.free_range("") == (100000, 65536)


def test_nobody_of_the_guest_needs_an_id_as_well() -> None:
    assert rootless.are_enough([(100_000, 65_536)])
    assert rootless.are_enough([(100_000, 60_000), (200_000, 5_536)])
    assert not rootless.are_enough([(100_000, 65_534)])
    assert not rootless.are_enough([])


def disjoint(rows: list[Row], position: int) -> bool:
    ranges = sorted((row[position], row[position] + row[2]) for row in rows)
    return all(before[1] <= after[0] for before, after in pairwise(ranges))
