"""What every driver must do, as tests. Plug-in authors subclass it and provide three fixtures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import structs

from vmctl.driver import Definition, Disk, Driver, State
from vmctl.errors import VmctlError
from vmctl.powers import Exports, Snapshots, Suspends
from vmctl.testing.contract_snapshots import SnapshotContract
from vmctl.wait import Deadline, until

PATIENCE = 30.0
"""Seconds for a hypervisor to carry out what it accepted."""


class DriverContract:
    """The suite; a driver with ``Snapshots`` needs ``SnapshotContract`` as well. The subclass provides fixtures:

    Fixtures:
        driver: a driver whose hypervisor has no machine of the name ``definition.name``; after each test it is
            the fixture's business to remove what the test made.
        definition: a machine that may be started, with an "ssh" forward where ``features.user_network``.
        disk: an image to create it from. It need not boot.
    """  # noqa: D415  the colon leads to the list

    def test_is_usable(self, driver: Driver) -> None:
        assert driver.usable() == ""
        assert driver.name
        assert isinstance(driver.where, str)
        assert driver.features.formats

    def test_snapshots_are_tested_where_they_are_possible(self, driver: Driver) -> None:
        assert isinstance(driver, Snapshots) == isinstance(self, SnapshotContract)

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
        driver.create(definition, disk)
        driver.start(definition.name)
        before = driver.states()[definition.name]
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

    def test_start_runs_the_machine(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        driver.start(definition.name)
        observed = driver.states()[definition.name]
        assert observed.state in (State.RUNNING, State.STARTING)
        assert observed.run

    def test_start_again_changes_nothing(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        driver.start(definition.name)
        run = driver.states()[definition.name].run
        driver.start(definition.name)
        assert driver.states()[definition.name].run == run

    def test_each_start_is_another_run(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        runs = set()
        for _ in range(3):
            driver.start(definition.name)
            runs.add(driver.states()[definition.name].run)
            driver.stop(definition.name, force=True)
        assert len(runs) == 3  # noqa: PLR2004  as many as starts

    def test_start_of_an_absent_machine_is_an_error(self, driver: Driver, definition: Definition) -> None:
        with pytest.raises(VmctlError):
            driver.start(definition.name)

    def test_stop_by_force_is_immediate_and_repeatable(
        self, driver: Driver, definition: Definition, disk: Disk
    ) -> None:
        driver.create(definition, disk)
        driver.start(definition.name)
        for _ in range(2):
            driver.stop(definition.name, force=True)
            assert driver.states()[definition.name].state is State.STOPPED

    def test_stop_presses_the_button_and_returns(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        driver.stop(definition.name)
        assert driver.states()[definition.name].state is State.STOPPED
        driver.start(definition.name)
        driver.stop(definition.name)
        assert driver.states()[definition.name].state in (State.RUNNING, State.STOPPING, State.STOPPED)

    def test_stop_of_an_absent_machine_does_nothing(self, driver: Driver, definition: Definition) -> None:
        driver.stop(definition.name)
        driver.stop(definition.name, force=True)

    def test_update_keeps_the_machine(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        spec = structs.replace(definition.spec, cpus=definition.spec.cpus + 1, disk=disk.virtual_size * 2)
        driver.update(structs.replace(definition, spec=spec))
        driver.start(definition.name)
        assert driver.states()[definition.name].tag == definition.tag

    def test_update_of_a_running_machine_is_an_error(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        driver.create(definition, disk)
        driver.start(definition.name)
        with pytest.raises(VmctlError):
            driver.update(definition)

    def test_destroy_removes_the_machine_whatever_it_does(
        self, driver: Driver, definition: Definition, disk: Disk
    ) -> None:
        for start in (False, True):
            driver.create(definition, disk)
            if start:
                driver.start(definition.name)
            for _ in range(2):
                driver.destroy(definition.name)
                assert definition.name not in driver.states()

    def test_address_is_where_ssh_is_forwarded_from(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        assert driver.address(definition.name) is None
        driver.create(definition, disk)
        driver.start(definition.name)
        address = driver.address(definition.name)
        if driver.features.user_network:
            ssh = next(forward for forward in definition.forwards if forward.name == "ssh")
            assert address is not None
            assert (address.host, address.port) == (ssh.host_ip, ssh.host)

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
        driver.start(definition.name)
        for _ in range(2):
            driver.suspend(definition.name)
            assert driver.states()[definition.name].state in (State.SAVED, State.PAUSED)
        driver.start(definition.name)
        assert driver.states()[definition.name].state is State.RUNNING

    def test_restoring_is_another_run(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        if not isinstance(driver, Suspends):
            return  # an optional power
        driver.create(definition, disk)
        driver.start(definition.name)
        before = driver.states()[definition.name].run
        driver.suspend(definition.name)
        if driver.states()[definition.name].state is State.SAVED:
            driver.start(definition.name)
            assert driver.states()[definition.name].run not in ("", before)

    def test_stop_by_force_drops_a_saved_state(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        if not isinstance(driver, Suspends):
            return  # an optional power
        driver.create(definition, disk)
        driver.start(definition.name)
        driver.suspend(definition.name)
        driver.stop(definition.name, force=True)
        assert driver.states()[definition.name].state is State.STOPPED

    def test_a_clone_is_a_machine_of_its_own(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        if not isinstance(driver, Exports):
            return  # an optional power
        copy = _variant(definition, 0)
        with pytest.raises(VmctlError):
            driver.clone(copy, definition.name)
        driver.create(definition, disk)
        before = driver.states()[definition.name]
        try:
            for _ in range(2):
                driver.clone(copy, definition.name)
                assert driver.states()[copy.name].state is State.STOPPED
                assert driver.states()[copy.name].tag == copy.tag
            driver.start(copy.name)
            assert driver.states()[definition.name] == before
        finally:
            driver.destroy(copy.name)
        driver.start(definition.name)
        with pytest.raises(VmctlError):
            driver.clone(copy, definition.name)

    def test_a_machine_is_exported_as_files_that_stand_alone(
        self, driver: Driver, definition: Definition, disk: Disk, tmp_path: Path
    ) -> None:
        if not isinstance(driver, Exports):
            return  # an optional power
        driver.create(definition, disk)
        exported = driver.export(definition.name, tmp_path)
        assert exported.disks
        assert all(path.is_file() and path.parent == tmp_path for path in exported.disks)
        assert driver.states()[definition.name].state is State.STOPPED

    def test_machines_can_be_made_in_parallel(self, driver: Driver, definition: Definition, disk: Disk) -> None:
        if not driver.features.parallel:
            return  # it does not claim to
        many = [_variant(definition, number) for number in range(4)]
        try:
            with ThreadPoolExecutor(len(many)) as pool:
                list(pool.map(lambda each: driver.create(each, disk), many))
                list(pool.map(lambda each: driver.start(each.name), many))
            until(lambda: _all_run(driver, many), Deadline.after(PATIENCE), "all machines to run")
        finally:
            for each in many:
                driver.destroy(each.name)


def _variant(definition: Definition, number: int) -> Definition:
    return structs.replace(
        definition,
        name=f"{definition.name}-{number}",
        tag=structs.replace(definition.tag, machine=f"{definition.tag.machine}-{number}"),
        mac=f"52:54:00:00:01:{number:02x}",
        console=definition.console.with_name(f"console-{number}.log"),
        forwards=(),
        nics=(),
    )


def _all_run(driver: Driver, machines: list[Definition]) -> bool:
    states = driver.states()
    return all(states[each.name].state is State.RUNNING for each in machines)
