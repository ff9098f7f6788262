from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vmctl import registry
from vmctl.driver import Driver, Host
from vmctl.errors import Unreachable
from vmctl.events import Event, Warned
from vmctl.layout import HomeLayout
from vmctl.lifecycle import layer_cache
from vmctl.powers import Layer
from vmctl.spec import Cache
from vmctl.store import files, layer_ledger, records
from vmctl.store.layer_ledger import LayerNote
from vmctl.store.records import BoxUsed, Record
from vmctl.testing import FakeDriver

NOW = 1000.0


def note(used: float, provider: str = "fake") -> LayerNote:
    return LayerNote(
        provider=provider, where="fake", project="/p", machine="m", provisioners=("a",), seconds=1, used=used
    )


def beyond(layers: list[Layer], notes: dict[str, LayerNote], **budget: float) -> list[str]:
    cache = Cache(size=int(budget.get("size", 100)), age=budget.get("age", 100.0))
    return [layer.key for layer in layer_cache.beyond(layers, notes, cache, now=NOW)]


def test_within_its_bounds_all_stays() -> None:
    assert beyond([Layer(key="a", size=50, made=990), Layer(key="b", size=50, made=990)], {}) == []


def test_what_is_too_much_goes_least_recently_used_first() -> None:
    layers = [Layer(key=key, size=50, made=made) for key, made in (("a", 998), ("b", 996), ("c", 997))]
    assert beyond(layers, {}) == ["b", "c", "a"]
    assert beyond(layers, {"b": note(999)}) == ["c", "a", "b"]


def test_what_was_used_in_time_to_come_goes_before_what_is_known_to_be_used() -> None:
    layers = [Layer(key=key, size=50, made=made) for key, made in (("a", 999), ("b", 2000), ("c", 3000))]
    assert beyond(layers, {}) == ["b", "c", "a"]
    assert beyond(layers, {"b": note(5000)}) == ["c", "b", "a"]
    assert beyond(layers, {}, size=1000, age=1) == [], "while a clock is behind, nothing is too old for that"


def test_what_is_too_old_goes_unless_it_was_used() -> None:
    layers = [Layer(key="a", size=1, made=1), Layer(key="b", size=1, made=1)]
    assert beyond(layers, {"b": note(950)}) == ["a"]


def test_what_something_stands_on_never_goes() -> None:
    layers = [Layer(key="a", size=500, made=1, needed=True), Layer(key="b", size=1, made=999)]
    assert beyond(layers, {}) == ["b"]
    assert beyond(layers[:1], {}) == []


def test_what_others_made_goes_when_it_is_asked_for_alone(tmp_path: Path) -> None:
    home, driver = HomeLayout(tmp_path), FakeDriver(Host(home=tmp_path))
    with driver._machines.open() as content:
        content.layers |= {"ours": "", "theirs": ""}
    layer_ledger.add(home, "ours", note(1))
    nothing = Cache(size=0)
    assert [layer.key for layer in layer_cache.prune("fake", driver, home, nothing)] == ["ours"]
    assert [layer.key for layer in layer_cache.prune("fake", driver, home, nothing, everybodys=True)] == ["theirs"]


def test_keys_of_machines_whose_memory_is_gone_go_too(tmp_path: Path) -> None:
    home, driver = HomeLayout(tmp_path), FakeDriver(Host(home=tmp_path))
    box = BoxUsed(name="b", version="1", digest="", user="u")
    for key, where in (("old", "fake"), ("new", "fake"), ("there", "fake"), ("elsewhere", "other")):
        kept = home.memory(key)
        files.make_directory(kept.root)
        record = Record(
            name="m", project="p", machine="m", provider="fake", where=where, box=box, version="1", user="u"
        )
        records.save(kept, record)
        if key != "new":
            os.utime(kept.root, (1, 1))
    with driver._machines.open() as content:
        content.layers["there"] = ""
    cut = home.memory("cut")
    files.write(cut.key, "what a killed vmctl left of it, without a record")
    os.utime(cut.root, (1, 1))
    damaged = home.memory("damaged")
    files.write(damaged.record, "{")
    (home.memories / "going").symlink_to("gone")  # as one that another vmctl has just removed
    os.utime(damaged.root, (1, 1))
    layer_cache.prune("fake", driver, home, Cache())
    assert sorted(files.names(home.memories)) == ["damaged", "elsewhere", "going", "new", "there"]


def test_what_is_gone_is_forgotten_whoever_removed_it(tmp_path: Path) -> None:
    home = HomeLayout(tmp_path)
    layer_ledger.add(home, "gone", note(1))
    layer_ledger.add(home, "elsewhere", note(1, "other"))
    assert layer_cache.prune("fake", FakeDriver(Host(home=tmp_path)), home, Cache()) == []
    assert layer_ledger.read(home).keys() == {"elsewhere"}


class Untidy(FakeDriver):
    """One that was left in the middle of a removal."""

    def remove_leftovers(self) -> tuple[Layer, ...]:
        return (Layer(key="left", size=7),)


class Silent(FakeDriver):
    """One whose hypervisor does not answer."""

    def layers(self) -> tuple[Layer, ...]:
        raise Unreachable("nobody answers")


def test_what_killed_removals_left_goes_though_nothing_else_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[str, Any] = {"silent": Silent, "untidy": Untidy}
    told: list[Event] = []

    def make(name: str, host: Host) -> Driver:
        made: Driver = kinds[name](host)
        return made

    monkeypatch.setattr(registry, "names", lambda: tuple(kinds))
    monkeypatch.setattr(registry, "make", make)
    removed = layer_cache.prune_all(HomeLayout(tmp_path), Cache(), told.append)
    assert [(layer.key, layer.size) for layer in removed] == [("left", 7)]
    assert [event.text for event in told if isinstance(event, Warned)] == [
        "nobody answers; what fake keeps is left out"
    ]
    assert layer_cache.all_known(HomeLayout(tmp_path), told.append) == []


def test_a_damaged_memory_of_hypervisors_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Event] = []
    monkeypatch.setattr(registry, "names", tuple)
    home = HomeLayout(tmp_path)
    home.hypervisors.write_text("{")
    assert layer_cache.prune_all(home, Cache(), told.append) == []
    ((text, hint),) = [(event.text, event.hint) for event in told if isinstance(event, Warned)]
    assert text == f"{home.hypervisors} is damaged; hypervisors of other hosts may be left out"
    assert hint.startswith("mv -- ")
