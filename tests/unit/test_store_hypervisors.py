from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from vmctl.errors import VmctlError
from vmctl.layout import HomeLayout
from vmctl.store import hypervisors


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path)


def test_what_is_remembered_is_read_until_it_is_forgotten(home: HomeLayout) -> None:
    assert hypervisors.read(home) == ()
    for where in ("b", "a", "b"):
        hypervisors.remember(home, "fake", where)
    first, second = hypervisors.read(home)
    assert (first.place, second.place) == (("fake", "a"), ("fake", "b"))
    hypervisors.forget(home, first)
    assert hypervisors.read(home) == (second,)


def test_one_that_was_used_meanwhile_is_not_forgotten(home: HomeLayout) -> None:
    hypervisors.remember(home, "fake", "a")
    (seen,) = hypervisors.read(home)
    hypervisors.forget(home, structs.replace(seen, used=seen.used - 1))
    assert hypervisors.read(home) == (seen,)


@pytest.mark.parametrize("text", ["{", "[]", '{"hypervisors": [{"provider": 1}]}', "{}", '"hypervisors"'])
def test_a_damaged_file_is_told_and_as_good_as_lost(home: HomeLayout, text: str) -> None:
    home.hypervisors.write_text(text)
    with pytest.raises(VmctlError, match="damaged"):
        hypervisors.read(home)
    hypervisors.remember(home, "fake", "a")
    assert [one.place for one in hypervisors.read(home)] == [("fake", "a")]


def test_a_link_in_its_place_is_not_followed(home: HomeLayout, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"hypervisors": [{"provider": "fake", "where": "evil", "used": 1}]}')
    home.hypervisors.symlink_to("elsewhere")
    with pytest.raises(VmctlError, match="symbolic link"):
        hypervisors.read(home)
    hypervisors.remember(home, "fake", "a")
    assert [one.place for one in hypervisors.read(home)] == [("fake", "a")]
    assert "evil" in (tmp_path / "elsewhere").read_text()
