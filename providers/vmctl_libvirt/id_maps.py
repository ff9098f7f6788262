"""Which ids of this host an ordinary user's virtiofsd may act with. Pure: it asks nobody.

In the outer namespace the user is who they are, and all other ids are theirs by /etc/subuid, or nobody's. The inner
one is ``confined_virtiofsd``'s, as in system mode: the guest's login user is the user, its root a spare id of theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from vmctl_libvirt.confined_virtiofsd import LAST_ID, NOBODY, Row, exceptions, id_map

MOST_ROWS = 300
"""The kernel takes 340 in a map; one range may be cut in two, and the inner map has some more."""
Range = tuple[int, int]
"""First id, and how many."""


def ranges(text: str, names: Collection[str]) -> tuple[Range, ...]:
    """The ranges that a file like /etc/subuid gives to a user, by name or number.

    Args:
        text: the file's.
        names: the user's name and number.
    """
    return tuple((start, count) for name, start, count in _rows(text) if name in names)


def suffices(given: Sequence[Range]) -> bool:
    """Whether there are enough for every id that guests commonly have, nobody's included."""
    return sum(count for _, count in given[:MOST_ROWS]) > NOBODY


def free_range(text: str) -> Range:
    """A range of the usual size that a file like /etc/subuid gives to nobody."""
    return max(100_000, *(start + count for _, start, count in _rows(text)), 0), NOBODY + 2


def _rows(text: str) -> Iterator[tuple[str, int, int]]:
    for line in text.splitlines():
        match line.split(":"):
            case name, start, count if start.isdigit() and count.isdigit():
                yield name, int(start), int(count)


def outer(own: int, given: Sequence[Range]) -> list[Row]:
    """Rows for newuidmap: ``own`` is itself, and the other ids, from 0 on, are those that were given."""
    rows, inside = [(own, own, 1)], 0
    for start, count in given[:MOST_ROWS]:
        before = min(count, own - inside) if inside <= own else count
        if before:
            rows.append((inside, start, before))
        inside += before
        if before < count:
            rows.append((inside + 1, start + before, count - before))
            inside += 1 + count - before
    return sorted(row for row in rows if row[0] + row[2] <= LAST_ID)


def inner(guest: int, own: int, around: Sequence[Row]) -> list[Row]:
    """Rows for the namespace within: ``guest`` is ``own``. Each lies in one row of ``around``, as the kernel wants."""
    return sorted(part for row in id_map(exceptions(guest, own)) for part in _parts(row, around))


def _parts(row: Row, around: Sequence[Row]) -> Iterator[Row]:
    inside, outside, count = row
    for start, _, many in around:
        first, end = max(outside, start), min(outside + count, start + many)
        if first < end:
            yield inside + first - outside, first, end - first


def as_word(rows: Sequence[Row]) -> str:
    """As ``confined_virtiofsd`` reads them."""
    return ",".join("-".join(map(str, row)) for row in rows)
