from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vmctl_libvirt import confined_virtiofsd, id_maps
from vmctl_libvirt.confined_virtiofsd import Row
from vmctl_libvirt.id_maps import Range

GIVEN = st.lists(st.integers(1, 70_000), min_size=1, max_size=5).map(
    lambda counts: [(100_000_000 * number, count) for number, count in enumerate(counts, 1)]
)
"""Ranges that do not overlap, nor hold anybody's own id."""
IDS = st.integers(0, 70_000) | st.sampled_from([0, 1000, 65534, 1_000_000])
OWN = st.integers(1, 70_000) | st.just(1_000_000)


def outside(rows: list[Row], inside: int) -> int | None:
    return next((out + inside - start for start, out, count in rows if start <= inside < start + count), None)


@given(own=OWN, ranges=GIVEN)
def test_all_ids_outside_are_the_users_own_or_were_given_to_them(own: int, ranges: list[Range]) -> None:
    rows = id_maps.outer(own, ranges)
    assert outside(rows, own) == own
    assert sum(count for _, _, count in rows) == 1 + sum(count for _, count in ranges)
    for _, start, count in rows:
        within = [first <= start and start + count <= first + many for first, many in ranges]
        assert any(within) or (start, count) == (own, 1)
    assert disjoint(rows, 0)
    assert disjoint(rows, 1)


@given(guest=IDS, own=OWN, ranges=GIVEN)
def test_only_the_guests_login_user_is_the_user_and_its_root_is_not(guest: int, own: int, ranges: list[Range]) -> None:
    around = id_maps.outer(own, ranges)
    rows = id_maps.inner(guest, own, around)
    assert disjoint(rows, 0)
    assert disjoint(rows, 1)
    meant = {inside for inside in (*range(0, 70_000, 997), 0, guest, own, 65534) if outside(rows, inside) == own}
    assert meant == {guest}
    for _, start, count in rows:
        assert any(first <= start and start + count <= first + many for first, _, many in around), "one row of it"


def test_what_podman_users_have() -> None:
    around = id_maps.outer(1000, [(100_000, 65_536)])
    assert around == [(0, 100_000, 1000), (1000, 1000, 1), (1001, 101_000, 64_536)]
    rows = id_maps.inner(1000, 1000, around)
    assert [outside(rows, each) for each in (0, 1, 1000, 65_534)] == [65_534, 1, 1000, None]


def test_rows_arrive_as_they_were_sent() -> None:
    rows = id_maps.outer(1000, [(100_000, 65_536)])
    assert confined_virtiofsd._rows(id_maps.as_word(rows)) == rows


def test_the_files_are_read_as_the_set_uid_programs_read_them() -> None:
    text = "anna:100000:65536\n1000:300000:5\n\nanna:x:9\n# anna:1:2\nberta:165536:65536\nanna:900000:1\n"
    assert id_maps.ranges(text, ("anna", "1000")) == ((100000, 65536), (300000, 5), (900000, 1))
    assert id_maps.ranges(text, ("carl", "1001")) == ()
    assert id_maps.free_range(text) == (900001, 65536)
    assert id_maps.free_range("") == (100000, 65536)


def test_nobody_of_the_guest_needs_an_id_as_well() -> None:
    assert id_maps.suffices([(100_000, 65_536)])
    assert id_maps.suffices([(100_000, 60_000), (200_000, 5_536)])
    assert not id_maps.suffices([(100_000, 65_534)])
    assert not id_maps.suffices([])


def disjoint(rows: list[Row], position: int) -> bool:
    ranges = sorted((row[position], row[position] + row[2]) for row in rows)
    return all(before[1] <= after[0] for before, after in pairwise(ranges))
