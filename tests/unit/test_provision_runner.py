from __future__ import annotations

from vmctl.provision.runner import batches
from vmctl.spec import Shell, SourceLocation


def item(name: str, inline: str = "true", line: int = 0) -> Shell:
    return Shell(name=name, inline=inline, place=SourceLocation(file="Vmfile", line=line))


def answer(work: dict[str, list[Shell]]) -> list[tuple[str, tuple[str, ...]]]:
    return [(provisioner.name, names) for provisioner, names in batches(work)]


def test_the_same_provisioner_runs_once_over_all_machines() -> None:
    same = [item("a"), item("b")]
    assert answer({"one": same, "two": same}) == [("a", ("one", "two")), ("b", ("one", "two"))]


def test_one_waits_for_machines_that_need_something_else_before() -> None:
    work = {"one": [item("common")], "two": [item("own"), item("common")]}
    assert answer(work) == [("own", ("two",)), ("common", ("one", "two"))]


def test_values_that_differ_make_runs_of_their_own() -> None:
    work = {"one": [item("a", "echo one")], "two": [item("a", "echo two")]}
    assert answer(work) == [("a", ("one",)), ("a", ("two",))]


def test_where_it_was_written_does_not_matter() -> None:
    assert answer({"one": [item("a", line=1)], "two": [item("a", line=2)]}) == [("a", ("one", "two"))]


def test_orders_that_contradict_each_other_are_both_kept() -> None:
    a, b = item("a"), item("b")
    assert answer({"one": [a, b], "two": [b, a]}) == [("a", ("one",)), ("b", ("one", "two")), ("a", ("two",))]


def test_nothing_needed_is_nothing_done() -> None:
    assert answer({"one": []}) == []
