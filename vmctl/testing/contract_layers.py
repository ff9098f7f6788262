"""What a driver with the optional power ``Layers`` must do, as tests, beside those of ``DriverContract``."""

from __future__ import annotations

from typing import Protocol

import pytest
from msgspec import structs

from vmctl.driver import Definition, Disk, Driver, Forward, State
from vmctl.errors import VmctlError, WrongState
from vmctl.powers import LayerDriver, Layers, Memories, Snapshots
from vmctl.testing.contract_acts import started

FIRST, SECOND, THIRD = (letter * 64 for letter in "abc")


class LayerContract:
    """The tests of ``Layers``; subclass both suites. The fixtures are those of ``DriverContract``."""

    def test_a_running_machine_goes_on_while_its_disks_become_layers(
        self, driver: LayerDriver, definition: Definition, disk: Disk
    ) -> None:
        name, tag = definition.name, definition.tag
        before = started(driver, definition, disk)
        assert driver.layers() == ()
        for key in (FIRST, SECOND):
            assert driver.freeze(name, tag, key)
            assert not driver.freeze(name, tag, key), "it is there already"
        assert driver.states()[name] == before
        needed = _needed(driver)
        assert needed.keys() == {FIRST, SECOND}
        assert driver.remove_layer(SECOND) is not needed[SECOND], "a machine may stand on its layer, or on none of them"
        driver.stop(name, tag, force=True)
        driver.update(definition)
        driver.start(name, tag)
        assert driver.states()[name].state is State.RUNNING
        _remove_all(driver, definition)

    def test_layers_outlive_their_machine_and_make_others(
        self, driver: LayerDriver, definition: Definition, disk: Disk
    ) -> None:
        name, tag = definition.name, definition.tag
        driver.create(definition, disk)
        driver.start(name, tag)
        driver.freeze(name, tag, FIRST)
        driver.destroy(name, tag)
        for _ in range(2):
            driver.create(definition, structs.replace(disk, layer=FIRST))
            driver.create(definition, structs.replace(disk, layer=FIRST))
            driver.start(name, tag)
            assert driver.states()[name].state is State.RUNNING
            assert _needed(driver)[FIRST]
            assert not driver.remove_layer(FIRST), "a machine stands on it"
            driver.destroy(name, tag)
        driver.create(definition, structs.replace(disk, layer=FIRST))
        assert not driver.remove_layer(FIRST), "a machine that is off stands on it"
        driver.freeze(name, tag, SECOND)
        driver.destroy(name, tag)
        assert not driver.remove_layer(FIRST), "a layer stands on it"
        driver.create(definition, disk)  # the same machine, from its box, beside its own layers
        driver.start(name, tag)
        driver.freeze(name, tag, THIRD)
        assert _needed(driver).keys() == {FIRST, SECOND, THIRD}
        _remove_all(driver, definition)

    def test_a_layer_that_is_not_there_makes_no_machine(
        self, driver: LayerDriver, definition: Definition, disk: Disk
    ) -> None:
        with pytest.raises(WrongState):
            driver.create(definition, structs.replace(disk, layer=THIRD))
        assert driver.states() == {}
        assert driver.remove_layer(THIRD)

    def test_absent_machines_leave_no_layers(self, driver: LayerDriver, definition: Definition) -> None:
        with pytest.raises(VmctlError):
            driver.freeze(definition.name, definition.tag, FIRST)
        assert driver.layers() == ()

    def test_snapshots_and_layers_of_a_machine_keep_out_of_each_others_way(
        self, driver: LayerDriver, definition: Definition, disk: Disk
    ) -> None:
        if not isinstance(driver, Snapshots):
            return  # an optional power
        name, tag = definition.name, definition.tag
        driver.create(definition, disk)
        driver.start(name, tag)
        driver.freeze(name, tag, FIRST)
        driver.save_snapshot(name, tag, "one")
        driver.freeze(name, tag, SECOND)
        driver.save_snapshot(name, tag, "two")
        driver.restore_snapshot(name, tag, "one")
        driver.start(name, tag)
        driver.remove_snapshot(name, tag, "two")
        driver.remove_snapshot(name, tag, "one")
        driver.stop(name, tag, force=True)
        driver.destroy(name, tag)
        for key in (FIRST, SECOND):
            driver.create(definition, structs.replace(disk, layer=key))
            driver.save_snapshot(name, tag, "of its own")
            driver.start(name, tag)
            driver.remove_snapshot(name, tag, "of its own")
            assert driver.states()[name].state is State.RUNNING
            driver.destroy(name, tag)
        _remove_all(driver, definition)

    def test_layers_hold_several_disks(self, driver: LayerDriver, definition: Definition, disk: Disk) -> None:
        if not driver.features.several_disks:
            return  # an optional power
        name, tag = definition.name, definition.tag
        several = structs.replace(disk, further=(disk, disk))
        driver.create(definition, several)
        driver.start(name, tag)
        driver.freeze(name, tag, FIRST)
        driver.destroy(name, tag)
        driver.create(definition, structs.replace(several, layer=FIRST))
        driver.start(name, tag)
        assert driver.states()[name].state is State.RUNNING
        _remove_all(driver, definition)


def _needed(driver: Layers) -> dict[str, bool]:
    return {each.key: each.needed for each in driver.layers()}


def _remove_all(driver: LayerDriver, definition: Definition) -> None:
    """Remove the machine, then its layers, in whatever order they allow; nothing is left."""
    driver.destroy(definition.name, definition.tag)
    for _ in driver.layers():
        for each in driver.layers():
            driver.remove_layer(each.key)
    assert driver.layers() == ()


KEPT, OTHER = "d" * 64, "e" * 64


class MemoryDriver(Driver, Memories, Protocol):
    """A driver that keeps memory."""


def word() -> bytes:
    """What a guest may wait for; none of these reads it."""
    return b"word".ljust(512, b"\0")


class MemoryContract:
    """The tests of ``Memories``; subclass all suites. The fixtures are those of ``DriverContract``."""

    def test_a_machine_goes_on_from_its_memory_as_often_as_wanted(
        self, driver: MemoryDriver, definition: Definition, disk: Disk
    ) -> None:
        name, tag = definition.name, definition.tag
        before = started(driver, definition, disk)
        assert driver.keep_memory(name, tag, KEPT)
        assert not driver.keep_memory(name, tag, KEPT), "it is there already"
        assert driver.states()[name] == before, "it goes on"
        assert [(layer.key, layer.memory, layer.needed) for layer in driver.layers()] == [(KEPT, True, True)]
        seals = {layer.seal for layer in driver.layers()}
        runs = {before.run}
        for _ in range(2):
            driver.destroy(name, tag)
            driver.thaw(definition, KEPT, word)
            now = driver.states()[name]
            assert now.state is State.RUNNING
            assert now.tag.is_same(tag)
            assert now.run not in runs
            runs.add(now.run)
            with pytest.raises(WrongState):
                driver.thaw(definition, KEPT, word)
        seals |= {layer.seal for layer in driver.layers()}
        assert len(seals) == 1, "to go on from it changes nothing"
        assert "" not in seals
        driver.stop(name, tag, force=True)
        driver.update(definition)
        driver.start(name, tag)
        assert driver.states()[name].state is State.RUNNING
        assert not driver.remove_layer(KEPT), "the machine stands on its disks"
        driver.destroy(name, tag)
        assert driver.remove_layer(KEPT)
        assert driver.layers() == ()

    def test_memory_is_of_one_machine(self, driver: MemoryDriver, definition: Definition, disk: Disk) -> None:
        name, tag = definition.name, definition.tag
        driver.create(definition, disk)
        with pytest.raises(WrongState):
            driver.keep_memory(name, tag, KEPT)  # it is off
        driver.start(name, tag)
        driver.keep_memory(name, tag, KEPT)
        driver.destroy(name, tag)
        stranger = structs.replace(definition, tag=structs.replace(tag, project="f" * 32))
        for wrong, key in ((stranger, KEPT), (definition, OTHER)):
            with pytest.raises(WrongState):
                driver.thaw(wrong, key, word)
            assert driver.states() == {}
        driver.thaw(definition, KEPT, word)
        assert driver.states()[name].state is State.RUNNING
        driver.destroy(name, tag)
        assert driver.remove_layer(KEPT)

    def test_the_key_of_memory_has_the_hardware_and_no_host_ports(
        self, driver: MemoryDriver, definition: Definition, disk: Disk
    ) -> None:
        key = driver.memory_key(definition, disk)
        assert key == driver.memory_key(definition, disk)
        more = Forward(name="web", guest=80, host=18080, host_ip="127.0.0.1", protocol="tcp")
        assert key == driver.memory_key(structs.replace(definition, forwards=(*definition.forwards, more)), disk)
        spec = definition.spec
        for changed in (
            structs.replace(definition, spec=structs.replace(spec, cpus=spec.cpus + 1)),
            structs.replace(definition, spec=structs.replace(spec, memory=spec.memory * 2)),
            structs.replace(definition, mac="52:54:00:00:00:99"),
        ):
            assert driver.memory_key(changed, disk) != key
