"""What a driver with the optional power ``Snapshots`` must do, as tests, beside those of ``DriverContract``."""

from __future__ import annotations

from typing import Protocol

import pytest
from msgspec import structs

from vmctl.driver import Definition, Disk, Driver, State, Tag
from vmctl.errors import VmctlError, WrongState
from vmctl.powers import Snapshots

FIRST = "first 'ü' & <co>"
NOTE = '{"what": ["the \\"core\\" keeps"]}'


class SnapshotDriver(Driver, Snapshots, Protocol):
    """A driver that keeps snapshots."""


class SnapshotContract:
    """The tests of ``Snapshots``; subclass both suites. The fixtures are those of ``DriverContract``."""

    def test_snapshots_of_a_stopped_machine_form_a_tree(
        self, driver: SnapshotDriver, definition: Definition, disk: Disk
    ) -> None:
        name = definition.name
        driver.create(definition, disk)
        assert driver.snapshots(name, definition.tag) == ()
        first = driver.save_snapshot(name, definition.tag, FIRST, note=NOTE)
        assert (first.name, first.parent, first.memory, first.current, first.note) == (FIRST, "", False, True, NOTE)
        driver.save_snapshot(name, definition.tag, "second")
        driver.restore_snapshot(name, definition.tag, FIRST)
        assert driver.states()[name].state is State.STOPPED
        driver.save_snapshot(name, definition.tag, "third")
        assert _tree(driver, name, definition.tag) == {FIRST: "", "second": FIRST, "third": FIRST}
        assert [each.name for each in driver.snapshots(name, definition.tag) if each.current] == ["third"]
        assert driver.snapshots(name, definition.tag)[0].note == NOTE
        driver.start(name, definition.tag)
        assert driver.states()[name].state is State.RUNNING

    def test_a_snapshot_is_never_overwritten_unless_told(
        self, driver: SnapshotDriver, definition: Definition, disk: Disk
    ) -> None:
        name = definition.name
        driver.create(definition, disk)
        driver.save_snapshot(name, definition.tag, FIRST, note="old")
        driver.save_snapshot(name, definition.tag, "second")
        with pytest.raises(WrongState):
            driver.save_snapshot(name, definition.tag, FIRST, note="new")
        assert driver.snapshots(name, definition.tag)[0].note == "old"
        driver.save_snapshot(name, definition.tag, FIRST, replace=True, note="new")
        assert _tree(driver, name, definition.tag) == {"second": "", FIRST: "second"}
        assert [each.note for each in driver.snapshots(name, definition.tag)] == ["", "new"]
        with pytest.raises(WrongState):
            driver.restore_snapshot(name, definition.tag, "no such snapshot")

    def test_a_removed_snapshot_leaves_what_builds_on_it(
        self, driver: SnapshotDriver, definition: Definition, disk: Disk
    ) -> None:
        name = definition.name
        driver.create(definition, disk)
        for snapshot in (FIRST, "second", "third"):
            driver.save_snapshot(name, definition.tag, snapshot)
        for _ in range(2):
            driver.remove_snapshot(name, definition.tag, "second")
            assert _tree(driver, name, definition.tag) == {FIRST: "", "third": FIRST}
        driver.restore_snapshot(name, definition.tag, FIRST)
        driver.save_snapshot(name, definition.tag, "other way")
        driver.remove_snapshot(name, definition.tag, FIRST)  # with two on it
        assert _tree(driver, name, definition.tag) == {"third": "", "other way": ""}
        driver.remove_snapshot(name, definition.tag, "other way")
        driver.restore_snapshot(name, definition.tag, "third")
        driver.remove_snapshot(name, definition.tag, "third")
        assert driver.snapshots(name, definition.tag) == ()
        driver.start(name, definition.tag)
        assert driver.states()[name].state is State.RUNNING

    def test_a_running_machine_goes_on_after_a_snapshot_and_back_to_it(
        self, driver: SnapshotDriver, definition: Definition, disk: Disk
    ) -> None:
        name = definition.name
        driver.create(definition, disk)
        driver.start(name, definition.tag)
        kept = driver.save_snapshot(name, definition.tag, FIRST)
        assert driver.states()[name].state is State.RUNNING
        for _ in range(2):
            before = driver.states()[name].run
            driver.restore_snapshot(name, definition.tag, FIRST)
            assert driver.states()[name].state is (State.SAVED if kept.memory else State.STOPPED)
            if kept.memory:
                with pytest.raises(VmctlError):
                    driver.update(definition)
            driver.start(name, definition.tag)
            assert driver.states()[name].state is State.RUNNING
            assert driver.states()[name].run != before
        assert [each.memory for each in driver.snapshots(name, definition.tag)] == [kept.memory]
        driver.restore_snapshot(name, definition.tag, FIRST)
        driver.stop(name, definition.tag, force=True)
        assert driver.states()[name].state is State.STOPPED
        driver.remove_snapshot(name, definition.tag, FIRST)

    def test_snapshots_of_a_running_machine_can_be_removed(
        self, driver: SnapshotDriver, definition: Definition, disk: Disk
    ) -> None:
        name = definition.name
        driver.create(definition, disk)
        driver.start(name, definition.tag)
        for snapshot in (FIRST, "second", "third"):
            driver.save_snapshot(name, definition.tag, snapshot)
        driver.restore_snapshot(name, definition.tag, "second")
        driver.start(name, definition.tag)
        for snapshot in (FIRST, "second", "third"):
            driver.remove_snapshot(name, definition.tag, snapshot)
            assert snapshot not in _tree(driver, name, definition.tag)
            assert driver.states()[name].state is State.RUNNING
        driver.stop(name, definition.tag, force=True)
        driver.update(definition)
        driver.start(name, definition.tag)
        assert driver.states()[name].state is State.RUNNING

    def test_snapshots_cover_several_disks(self, driver: SnapshotDriver, definition: Definition, disk: Disk) -> None:
        if not driver.features.several_disks:
            return  # an optional power
        name = definition.name
        driver.create(definition, structs.replace(disk, further=(disk, disk)))
        driver.save_snapshot(name, definition.tag, FIRST)
        driver.start(name, definition.tag)
        driver.save_snapshot(name, definition.tag, "second")
        driver.restore_snapshot(name, definition.tag, FIRST)
        driver.start(name, definition.tag)
        driver.remove_snapshot(name, definition.tag, "second")
        driver.remove_snapshot(name, definition.tag, FIRST)
        assert driver.snapshots(name, definition.tag) == ()
        driver.stop(name, definition.tag, force=True)
        driver.update(definition)
        driver.start(name, definition.tag)
        assert driver.states()[name].state is State.RUNNING

    def test_a_disk_with_snapshots_grows(self, driver: SnapshotDriver, definition: Definition, disk: Disk) -> None:
        name = definition.name
        driver.create(definition, disk)
        driver.save_snapshot(name, definition.tag, FIRST)
        spec = structs.replace(definition.spec, disk=disk.virtual_size * 2)
        driver.update(structs.replace(definition, spec=spec))
        assert _tree(driver, name, definition.tag) == {FIRST: ""}
        driver.save_snapshot(name, definition.tag, "larger")
        driver.restore_snapshot(name, definition.tag, FIRST)
        driver.update(structs.replace(definition, spec=spec))
        driver.start(name, definition.tag)
        assert driver.states()[name].tag == definition.tag


def _tree(driver: Snapshots, name: str, tag: Tag) -> dict[str, str]:
    return {each.name: each.parent for each in driver.snapshots(name, tag)}
