from __future__ import annotations

from vmctl.provisioners import Reboot, Shell
from vmctl.source_location import SourceLocation
from vmctl.spec import Server

HERE, THERE = SourceLocation(file="Vmfile", line=1, column=2), SourceLocation(file="Vmfile", line=8, column=2)


def test_where_a_value_was_written_is_no_part_of_it() -> None:
    assert Server(name="a", place=HERE) == Server(name="a", place=THERE)
    assert hash(Reboot(name="a", place=HERE)) == hash(Reboot(name="a", place=THERE))


def test_all_else_is_part_of_it() -> None:
    assert Server(name="a", place=HERE) != Server(name="b", place=HERE)
    assert Shell(name="a", inline="x") != Shell(name="a", inline="x", become=False)


def test_values_of_different_kinds_are_never_equal() -> None:
    assert Reboot(name="a") != Server(name="a")
    assert Server(name="a") != "a"
