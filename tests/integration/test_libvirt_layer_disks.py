"""Layers of a machine with two disks, on real libvirt and QEMU: what each disk holds, whatever happens between."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.integration.conftest import volumes
from tests.integration.two_disks import Killed, TwoDisks
from vmctl.driver import Host, State
from vmctl.layout import HomeLayout
from vmctl.lifecycle import layer_cache
from vmctl.spec import Cache
from vmctl_libvirt import LibvirtDriver, domain_edit
from vmctl_libvirt.layer_storage import LayerStorage

pytestmark = pytest.mark.integration

FIRST, SECOND = "a" * 64, "b" * 64
MOMENTS = 16
"""Changes of the pool by which two layers of two disks, one with memory, and a box are removed: more than these."""


class Machine(TwoDisks):
    """One machine, made anew again and again."""

    def make(self, layer: str = "") -> None:
        """Make it anew, on its box or on a layer."""
        self.driver.destroy(self.name, self.tag)
        self.driver.create(self.definition, structs.replace(self.box, layer=layer))


@pytest.fixture
def machine(private_host: Path, tmp_path: Path) -> Iterator[Machine]:
    driver = LibvirtDriver(Host(home=tmp_path / "home", options={"uri": "qemu:///system"}))
    made = Machine(driver, tmp_path)
    made.make()
    yield made
    driver.destroy(made.name, made.tag)
    for key in (SECOND, FIRST):
        assert driver.remove_layer(key)
    for copy in driver.box_copies():
        driver.remove_box_copy(copy.key)
    driver.close()
    assert volumes() == []


def test_each_layer_holds_what_the_disks_held_then(machine: Machine) -> None:
    driver, name, tag = machine.driver, machine.name, machine.tag
    machine.write(10)
    driver.start(name, tag)
    assert driver.freeze(name, tag, FIRST)
    assert driver.states()[name].state is State.RUNNING
    driver.stop(name, tag, force=True)
    machine.holds(10)
    machine.write(20)
    assert driver.freeze(name, tag, SECOND), "of a machine that is off"
    machine.write(30)
    machine.make(FIRST)
    machine.holds(10)
    machine.write(40)
    machine.make(SECOND)
    machine.holds(20)
    machine.make(FIRST)
    machine.holds(10)
    assert {each.key: each.needed for each in driver.layers()} == {FIRST: True, SECOND: False}
    assert all(each.size > 0 and each.made for each in driver.layers())


def test_snapshots_on_a_layer_never_write_into_it(machine: Machine) -> None:
    driver, name, tag = machine.driver, machine.name, machine.tag
    machine.write(10)
    driver.freeze(name, tag, FIRST)
    for layer in ("", FIRST):
        if layer:
            machine.make(layer)
        driver.save_snapshot(name, tag, "one")
        machine.write(20)
        driver.save_snapshot(name, tag, "two")
        machine.write(30)
        driver.remove_snapshot(name, tag, "one")
        driver.start(name, tag)
        driver.remove_snapshot(name, tag, "two")
        driver.stop(name, tag, force=True)
        machine.holds(30)
    machine.make(FIRST)
    machine.holds(10)


def test_removing_a_layer_frees_what_its_machine_wrote(machine: Machine) -> None:
    driver, name, tag = machine.driver, machine.name, machine.tag
    before = len(volumes())
    for key in (FIRST, SECOND):
        machine.write(10)
        driver.freeze(name, tag, key)
    assert not driver.remove_layer(SECOND), "the machine stands on what was frozen"
    driver.destroy(name, tag)
    assert not driver.remove_layer(FIRST), "the second stands on it"
    assert driver.remove_layer(SECOND)
    assert driver.remove_layer(FIRST)
    machine.make()
    assert len(volumes()) == before


@pytest.mark.parametrize("moment", ["stack", "layer", "redefine"])
@pytest.mark.parametrize("running", [True, False])
def test_a_vmctl_that_is_killed_while_freezing_loses_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, moment: str, *, running: bool
) -> None:
    driver, name, tag = machine.driver, machine.name, machine.tag
    machine.write(10)
    if running:
        driver.start(name, tag)
    place: Any = domain_edit if moment == "redefine" else LayerStorage
    real, calls = getattr(place, moment), []

    def killed(*words: Any) -> Any:
        calls.append(moment)
        if len(calls) == (1 if moment == "redefine" else 2):
            raise Killed
        return real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(place, moment, killed)
        patch.setattr(LayerStorage, "delete", lambda *_words: None)  # nothing is put right either
        with pytest.raises(Killed):
            driver.freeze(name, tag, FIRST)
    assert driver.layers() == ()
    driver.stop(name, tag, force=True)
    machine.holds(10)
    driver.start(name, tag)
    assert driver.freeze(name, tag, FIRST)
    driver.stop(name, tag, force=True)
    machine.make(FIRST)
    machine.holds(10)


@pytest.mark.parametrize(
    ("moment", "call"), [("stack", 1), ("stack", 2), ("layer_memory", 1), ("layer", 1), ("layer", 2)]
)
def test_what_a_killed_vmctl_leaves_of_memory_goes_with_its_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, moment: str, call: int
) -> None:
    driver, name, tag = machine.driver, machine.name, machine.tag
    driver.start(name, tag)
    real, calls = getattr(LayerStorage, moment), []

    def killed(*words: Any) -> Any:
        calls.append(moment)
        if len(calls) == call:
            raise Killed
        return real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(LayerStorage, moment, killed)
        patch.setattr(LayerStorage, "delete", lambda *_words: None)
        with pytest.raises(Killed):
            driver.keep_memory(name, tag, FIRST)
    assert any(each.endswith(".memory") for each in volumes())
    assert driver.layers() == ()
    driver.destroy(name, tag)
    assert [each for each in volumes() if not each.startswith("base-")] == []


def test_memory_goes_with_its_layer_and_not_with_snapshots(machine: Machine) -> None:
    driver, name, tag = machine.driver, machine.name, machine.tag
    driver.start(name, tag)
    assert driver.keep_memory(name, tag, FIRST)
    (kept,) = driver.layers()
    assert kept.memory
    driver.save_snapshot(name, tag, "one")
    driver.remove_snapshot(name, tag, "one")
    assert driver.layers()[0].seal == kept.seal, "it is what it was"
    driver.destroy(name, tag)
    assert driver.layers()[0].seal == kept.seal
    assert driver.remove_layer(FIRST)
    assert [each for each in volumes() if not each.startswith("base-")] == []


PRUNE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from vmctl.driver import Host
from vmctl.layout import HomeLayout
from vmctl.lifecycle import layer_cache
from vmctl.spec import Cache
from vmctl_libvirt import LibvirtDriver
from vmctl_libvirt.storage import Storage

left = int(sys.argv[2])

def dying(real):
    def change(*words):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words)
    return change

for name in ("delete", "_create"):
    setattr(Storage, name, dying(getattr(Storage, name)))
driver = LibvirtDriver(Host(home=Path(sys.argv[1]), options={"uri": "qemu:///system"}))
layer_cache.prune("libvirt", driver, HomeLayout(Path(sys.argv[1])), Cache(size=0), everybodys=True)
"""


def test_a_prune_that_is_killed_anywhere_is_finished_by_the_next(machine: Machine, tmp_path: Path) -> None:
    driver, name, tag, home = machine.driver, machine.name, machine.tag, HomeLayout(tmp_path / "home")
    ends: list[int] = []
    while ends[-1:] != [0]:
        machine.make()
        assert driver.freeze(name, tag, SECOND)
        driver.start(name, tag)
        assert driver.keep_memory(name, tag, FIRST)
        driver.destroy(name, tag)
        command = [sys.executable, "-c", PRUNE_AND_DIE, str(home.root), str(len(ends))]
        ends.append(subprocess.run(command, check=False).returncode)
        volumes()  # libvirt looks again at what stands on what is gone
        layer_cache.prune("libvirt", driver, home, Cache(size=0), everybodys=True)
        assert volumes() == [], f"killed before change {len(ends) - 1}"
    assert set(ends[:-1]) == {-signal.SIGKILL}
    assert len(ends) > MOMENTS
