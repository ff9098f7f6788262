"""What every driver must do, as tests. Plug-in authors subclass it and provide three fixtures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import structs

from vmctl.driver import Definition, Disk, Driver, Forward, NotOurs, State
from vmctl.errors import VmctlError
from vmctl.powers import Exports, Layers, LiveForwards, Snapshots, Suspends
from vmctl.testing.contract_acts import acts, all_run, free_port, listed, listens, observed, started, variant
from vmctl.testing.contract_layers import LayerContract
from vmctl.testing.contract_snapshots import SnapshotContract
from vmctl.wait import Deadline, until

PATIENCE = 30.0
"""Seconds for a hypervisor to carry out what it accepted."""


class DriverContract:
    """The suite; ``SnapshotContract`` and ``LayerContract`` are for drivers with those powers. Of the subclass:

    Fixtures:
        driver: a driver whose hypervisor has no machine of the name ``definition.name``; after each test it is
            the fixture's business to remove what the test made.
        definition: a machine that may be started, with an "ssh" forward where ``features.user_network``.
        disk: an image to create it from. It need not boot.
    """

    def test_is_usable(self, driver: Driver) -> None:
        assert driver.usable() == ""
        assert driver.name
        assert isinstance(driver.where, str)
        assert driver.features.formats

    def test_snapshots_are_tested_where_they_are_possible(self, driver: Driver) -> None:
        assert isinstance(driver, Snapshots) == isinstance(self, SnapshotContract)

    def test_layers_are_tested_where_they_are_possible(self, driver: Driver) -> None:
        assert isinstance(driver, Layers) == isinstance(self, LayerContract)

    def test_check_accepts_and_changes_nothing(self, driver: Driver, definition: Definition) -> None:
        driver.check(definition)
        assert definition.name not in driver.states()

    def test_create_makes_a_stopped_machine_with_its_tag(
        self, driver: Driver, definition: Definition, disk: Disk
    ) -> None:
        driver.create(definition, disk)
        observed = driver.states()[definition.name]
        assert observed.state is State.STOPPED
        assert observed.tag == definition.tag
        assert observed.run == ""

    def test_create_again_changes_nothing(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        before = started(driver, definition, disk)
        driver.create(definition, disk)
        assert driver.states()[definition.name] == before

    def test_create_that_fails_leaves_nothing(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        absent = structs.replace(disk, path=disk.path.with_name("absent.qcow2"), digest="0" * 64)
        with pytest.raises(VmctlError):
            driver.create(definition, absent)
        assert definition.name not in driver.states()
        driver.create(definition, disk)
        assert driver.states()[definition.name].state is State.STOPPED

    def test_create_refuses_the_machine_of_another_project(
        self, driver: Driver, definition: Definition, disk: Disk
    ) -> None:
        driver.create(definition, disk)
        foreign = structs.replace(definition, tag=structs.replace(definition.tag, project="0" * 32))
        with pytest.raises(VmctlError):
            driver.create(foreign, disk)
        assert driver.states()[definition.name].tag == definition.tag

    def test_the_machine_of_another_is_not_touched(
        self, driver: Driver, definition: Definition, disk: Disk, tmp_path: Path
    ) -> None:
        driver.create(definition, disk)
        before = driver.states()[definition.name]
        for changes in ({"project": "0" * 32}, {"machine": "other"}):
            tag = structs.replace(definition.tag, **changes)
            for act in acts(driver, structs.replace(definition, tag=tag), tmp_path):
                with pytest.raises(NotOurs):
                    act()
        assert driver.states()[definition.name] == before
        driver.start(definition.name, definition.tag)
        for changes in ({"project": "0" * 32}, {"machine": "other"}):
            tag = structs.replace(definition.tag, **changes)
            for force in (False, True):
                with pytest.raises(NotOurs):
                    driver.stop(definition.name, tag, force=force)
        assert driver.states()[definition.name].state in (State.RUNNING, State.STARTING)

    def test_a_machine_is_known_whoever_made_it_and_wherever(
        self, driver: Driver, definition: Definition, disk: Disk
    ) -> None:
        driver.create(definition, disk)
        driver.start(definition.name, structs.replace(definition.tag, version="99", root="/moved"))
        assert driver.states()[definition.name].run

    def test_one_machine_is_observed_as_all_are(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        name = definition.name
        assert driver.observe(name) is None
        driver.create(definition, disk)
        assert observed(driver, name) == listed(driver, name)
        driver.start(name, definition.tag)
        assert observed(driver, name) == listed(driver, name)
        if isinstance(driver, Suspends):
            driver.suspend(name, definition.tag)
            assert observed(driver, name) == listed(driver, name)
        driver.destroy(name, definition.tag)
        assert driver.observe(name) is None

    def test_start_runs_the_machine(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        observed = started(driver, definition, disk)
        assert observed.state in (State.RUNNING, State.STARTING)
        assert observed.run

    def test_start_again_changes_nothing(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        run = started(driver, definition, disk).run
        driver.start(definition.name, definition.tag)
        assert driver.states()[definition.name].run == run

    def test_each_start_is_another_run(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        runs = set()
        for _ in range(3):
            driver.start(definition.name, definition.tag)
            runs.add(driver.states()[definition.name].run)
            driver.stop(definition.name, definition.tag, force=True)
        assert len(runs) == 3

    def test_start_of_an_absent_machine_is_an_error(self, driver: Driver, definition: Definition) -> None:
        with pytest.raises(VmctlError):
            driver.start(definition.name, definition.tag)

    def test_stop_by_force_is_immediate_and_repeatable(
        self, driver: Driver, definition: Definition, disk: Disk
    ) -> None:
        driver.create(definition, disk)
        driver.start(definition.name, definition.tag)
        for _ in range(2):
            driver.stop(definition.name, definition.tag, force=True)
            assert driver.states()[definition.name].state is State.STOPPED

    def test_stop_presses_the_button_and_returns(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        driver.stop(definition.name, definition.tag)
        assert driver.states()[definition.name].state is State.STOPPED
        driver.start(definition.name, definition.tag)
        driver.stop(definition.name, definition.tag)
        assert driver.states()[definition.name].state in (State.RUNNING, State.STOPPING, State.STOPPED)

    def test_stop_of_an_absent_machine_does_nothing(self, driver: Driver, definition: Definition) -> None:
        driver.stop(definition.name, definition.tag)
        driver.stop(definition.name, definition.tag, force=True)

    def test_update_keeps_the_machine(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        spec = structs.replace(definition.spec, cpus=definition.spec.cpus + 1, disk=disk.virtual_size * 2)
        driver.update(structs.replace(definition, spec=spec))
        driver.start(definition.name, definition.tag)
        assert driver.states()[definition.name].tag == definition.tag

    def test_update_of_a_running_machine_is_an_error(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        driver.start(definition.name, definition.tag)
        with pytest.raises(VmctlError):
            driver.update(definition)

    def test_destroy_removes_the_machine_whatever_it_does(
        self, driver: Driver, definition: Definition, disk: Disk
    ) -> None:
        for start in (False, True):
            driver.create(definition, disk)
            if start:
                driver.start(definition.name, definition.tag)
            for _ in range(2):
                driver.destroy(definition.name, definition.tag)
                assert definition.name not in driver.states()

    def test_address_is_where_ssh_is_forwarded_from(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        assert driver.address(definition.name, definition.tag) is None
        driver.create(definition, disk)
        driver.start(definition.name, definition.tag)
        address = driver.address(definition.name, definition.tag)
        if driver.features.user_network:
            ssh = next(forward for forward in definition.forwards if forward.name == "ssh")
            assert address is not None
            assert (address.host, address.port) == (ssh.host_ip, ssh.host)

    def test_forwards_change_while_the_machine_runs(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        if not isinstance(driver, LiveForwards):
            return  # an optional power
        name, tag = definition.name, definition.tag
        more = Forward(name="tcp80", guest=80, host=free_port(), host_ip="127.0.0.1", protocol="tcp")
        with pytest.raises(VmctlError):
            driver.set_forwards(name, tag, (*definition.forwards, more))
        driver.create(definition, disk)
        with pytest.raises(VmctlError):
            driver.set_forwards(name, tag, (*definition.forwards, more))
        driver.start(name, tag)
        before, address = driver.states()[name], driver.address(name, tag)
        for forwards, served in (((*definition.forwards, more), True), (definition.forwards, False)):
            for _ in range(2):
                driver.set_forwards(name, tag, forwards)
                assert listens(more) is served
        assert (driver.states()[name], driver.address(name, tag)) == (before, address)

    def test_a_shrinking_disk_is_refused(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        spec = structs.replace(definition.spec, disk=disk.virtual_size // 2)
        with pytest.raises(VmctlError, match="disk"):
            driver.check(structs.replace(definition, spec=spec))

    def test_suspend_keeps_the_machine_until_it_is_started(
        self, driver: Driver, definition: Definition, disk: Disk
    ) -> None:
        if not isinstance(driver, Suspends):
            return  # an optional power
        driver.create(definition, disk)
        driver.start(definition.name, definition.tag)
        for _ in range(2):
            driver.suspend(definition.name, definition.tag)
            assert driver.states()[definition.name].state in (State.SAVED, State.PAUSED)
        driver.start(definition.name, definition.tag)
        assert driver.states()[definition.name].state is State.RUNNING

    def test_restoring_is_another_run(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        if not isinstance(driver, Suspends):
            return  # an optional power
        before = started(driver, definition, disk).run
        driver.suspend(definition.name, definition.tag)
        if driver.states()[definition.name].state is State.SAVED:
            driver.start(definition.name, definition.tag)
            assert driver.states()[definition.name].run not in ("", before)

    def test_stop_by_force_drops_a_saved_state(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        if not isinstance(driver, Suspends):
            return  # an optional power
        driver.create(definition, disk)
        driver.start(definition.name, definition.tag)
        driver.suspend(definition.name, definition.tag)
        driver.stop(definition.name, definition.tag, force=True)
        assert driver.states()[definition.name].state is State.STOPPED

    def test_a_clone_is_a_machine_of_its_own(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        if not isinstance(driver, Exports):
            return  # an optional power
        copy = variant(definition, 0)
        with pytest.raises(VmctlError):
            driver.clone(copy, definition.name, definition.tag)
        driver.create(definition, disk)
        before = driver.states()[definition.name]
        try:
            for _ in range(2):
                driver.clone(copy, definition.name, definition.tag)
                assert driver.states()[copy.name].state is State.STOPPED
                assert driver.states()[copy.name].tag == copy.tag
            driver.start(copy.name, copy.tag)
            assert driver.states()[definition.name] == before
        finally:
            driver.destroy(copy.name, copy.tag)
        driver.start(definition.name, definition.tag)
        with pytest.raises(VmctlError):
            driver.clone(copy, definition.name, definition.tag)

    def test_a_machine_is_exported_as_files_that_stand_alone(
        self, driver: Driver, definition: Definition, disk: Disk, tmp_path: Path
    ) -> None:
        if not isinstance(driver, Exports):
            return  # an optional power
        driver.create(definition, disk)
        exported = driver.export(definition.name, definition.tag, tmp_path)
        assert exported.disks
        assert all(path.is_file() and path.parent == tmp_path for path in exported.disks)
        assert driver.states()[definition.name].state is State.STOPPED

    def test_machines_can_be_made_in_parallel(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        if not driver.features.parallel:
            return  # it does not claim to
        many = [variant(definition, number) for number in range(4)]
        try:
            with ThreadPoolExecutor(len(many)) as pool:
                list(pool.map(lambda each: driver.create(each, disk), many))
                list(pool.map(lambda each: driver.start(each.name, each.tag), many))
            until(lambda: all_run(driver, many), Deadline.after(PATIENCE), "all machines to run")
        finally:
            for each in many:
                driver.destroy(each.name, each.tag)
