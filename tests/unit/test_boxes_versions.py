import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmctl.boxes.versions import Constraint, Version
from vmctl.errors import UsageError

# As RubyGems sorts them.
ASCENDING = [
    "0.9",
    "1.0.a",
    "1.0.a.2",
    "1.0.b1",
    "1.0-rc1",
    "1.0",
    "1.0.1",
    "1.1.5",
    "1.2.0.beta",
    "1.2",
    "1.10",
    "2",
    "20260131",
]

part = st.one_of(st.integers(0, 30).map(str), st.sampled_from(["a", "b", "rc1", "beta"]))
version = st.tuples(st.integers(0, 30).map(str), st.lists(part, max_size=4)).map(
    lambda pair: ".".join([pair[0], *pair[1]])
)


def test_versions_are_ordered_as_rubygems_orders_them() -> None:
    assert [str(one) for one in sorted(map(Version, reversed(ASCENDING)))] == ASCENDING


@pytest.mark.parametrize(("one", "other"), [("1.0", "1"), ("1.0.0", "1"), ("1.0.a", "1.0.0.a"), ("01", "1")])
def test_zeros_that_end_a_version_do_not_count(one: str, other: str) -> None:
    assert Version(one) == Version(other)
    assert hash(Version(one)) == hash(Version(other))


@given(version, version, version)
def test_order_is_total(a: str, b: str, c: str) -> None:
    x, y, z = Version(a), Version(b), Version(c)
    assert (x < y) + (x == y) + (x > y) == 1
    if x <= y <= z:
        assert x <= z


@pytest.mark.parametrize(
    ("constraint", "inside", "outside"),
    [
        ("", ["1", "9.9"], ["1.0.a"]),
        ("1.2", ["1.2", "1.2.0"], ["1.2.1"]),
        ("=1.2", ["1.2"], ["1.3"]),
        ("!=1.2", ["1.3"], ["1.2.0"]),
        (">1,<=2", ["1.0.1", "2"], ["1", "2.0.1"]),
        ("~>1.0", ["1.0", "1.9.9"], ["0.9", "2.0", "2.0.a"]),
        ("~> 1.1.5", ["1.1.5", "1.1.99"], ["1.1.4", "1.2.0"]),
        ("~>3", ["3", "3.9"], ["4", "2.9"]),
        (">=1.0.a", ["1.0.b", "1.0"], ["0.9"]),
        ("12.20260131.1", ["12.20260131.1"], ["12.20260131"]),
    ],
)
def test_constraints(constraint: str, inside: list[str], outside: list[str]) -> None:
    allowed = Constraint.parse(constraint)
    assert [one for one in inside if not allowed.allows(Version(one))] == []
    assert [one for one in outside if allowed.allows(Version(one))] == []


@given(version)
def test_pessimistic_constraint_allows_its_own_version(text: str) -> None:
    allowed = Constraint.parse(f"~>{text}")
    assert allowed.allows(Version(text))
    assert not allowed.allows(Version(text).bump)


@pytest.mark.parametrize("text", ["", "one", "1..2", "1.", "-1", "1 2", "1\n2"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid version"):
        Version(text)


@pytest.mark.parametrize("text", [">=", "1,,2", "=>1", "~>x", "1.0 2.0"])
def test_what_is_no_constraint_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Constraint.parse(text)
    assert repr(text) in caught.value.brief
