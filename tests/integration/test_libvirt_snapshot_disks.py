"""Snapshots of a machine with two disks, on real libvirt and QEMU: what each disk holds, whatever happens between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import volumes
from tests.integration.two_disks import Killed, TwoDisks
from vmctl.driver import Host, State
from vmctl.errors import VmctlError
from vmctl_libvirt import LibvirtDriver, domain_edit
from vmctl_libvirt.snapshot_tree import SnapshotNode
from vmctl_libvirt.snapshots import DomainSnapshotter

pytestmark = pytest.mark.integration


class Machine(TwoDisks):
    """One machine, made from its box."""

    def __init__(self, driver: LibvirtDriver, directory: Path) -> None:
        super().__init__(driver, directory)
        driver.create(self.definition, self.box)

    @property
    def chains(self) -> list[tuple[str, ...]]:
        """What it runs on."""
        return list(self.of_domain(domain_edit.live_chains).values())

    def overlays(self) -> list[str]:
        """Its volumes in the pool."""
        return [name for name in volumes() if name.startswith(self.name)]


@pytest.fixture
def machine(private_host: Path, tmp_path: Path) -> Iterator[Machine]:
    driver = LibvirtDriver(Host(home=tmp_path / "home", options={"uri": "qemu:///system"}))
    made = Machine(driver, tmp_path)
    yield made
    driver.destroy(made.name, made.tag)
    for copy in driver.box_copies():
        driver.remove_box_copy(copy.key)
    driver.close()
    assert volumes() == []


def test_both_disks_go_back_and_are_joined_again(machine: Machine) -> None:
    driver, name = machine.driver, machine.name
    machine.write(10)
    before = machine.disks
    driver.start(name, machine.tag)
    assert driver.save_snapshot(name, machine.tag, "one").memory
    assert [chain[1] for chain in machine.chains] == list(before)
    assert driver.states()[name].state is State.RUNNING
    driver.stop(name, machine.tag, force=True)
    machine.write(20)
    driver.save_snapshot(name, machine.tag, "two")
    machine.write(30)
    driver.restore_snapshot(name, machine.tag, "two")
    machine.holds(20)
    driver.restore_snapshot(name, machine.tag, "one")
    machine.holds(10)
    driver.start(name, machine.tag)
    assert driver.states()[name].state is State.RUNNING
    driver.remove_snapshot(name, machine.tag, "two")
    driver.remove_snapshot(name, machine.tag, "one")
    assert [len(chain) for chain in machine.chains] == [2, 2]  # an overlay and the box
    assert len(machine.overlays()) == 2
    driver.stop(name, machine.tag, force=True)
    machine.holds(10)
    for number in (40, 50):  # joined while it is off
        driver.save_snapshot(name, machine.tag, "off")
        machine.write(number)
        driver.remove_snapshot(name, machine.tag, "off")
    machine.holds(50)
    assert len(machine.overlays()) == 2
    driver.start(name, machine.tag)


def test_a_save_that_fails_or_is_killed_leaves_both_disks_as_they_were(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, name = machine.driver, machine.name
    machine.write(10)
    driver.start(name, machine.tag)
    driver.save_snapshot(name, machine.tag, "one")
    before, overlays = machine.chains, machine.overlays()

    def half(self: DomainSnapshotter, node: SnapshotNode) -> tuple[str, ...]:
        first, second = real_stack(self, node)
        self.storage.delete(second)
        return first, second

    real_stack = DomainSnapshotter._stack
    with monkeypatch.context() as broken:
        broken.setattr(DomainSnapshotter, "_stack", half)
        with pytest.raises(VmctlError):
            driver.save_snapshot(name, machine.tag, "one", replace=True)
    assert (machine.chains, machine.overlays()) == (before, overlays)
    assert [each.name for each in driver.snapshots(name, machine.tag)] == ["one"]

    def die(*_args: object) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(domain_edit, "redefine", die)
        broken.setattr(DomainSnapshotter, "_try_to_tidy", lambda *_args: None)
        with pytest.raises(Killed):
            driver.save_snapshot(name, machine.tag, "killed")
    assert [len(chain) for chain in machine.chains] == [4, 4]
    driver.save_snapshot(name, machine.tag, "after")
    driver.remove_snapshot(name, machine.tag, "after")
    assert [len(chain) for chain in machine.chains] == [3, 3]
    assert driver.states()[name].state is State.RUNNING
    _back_to(machine, "one", 10)


def _back_to(machine: Machine, snapshot: str, byte: int) -> None:
    machine.driver.restore_snapshot(machine.name, machine.tag, snapshot)
    machine.holds(byte)
    machine.driver.start(machine.name, machine.tag)
    assert machine.driver.states()[machine.name].state is State.RUNNING


def test_what_each_disk_takes_up_counts(machine: Machine) -> None:
    driver, name = machine.driver, machine.name
    driver.save_snapshot(name, machine.tag, "empty")
    machine.write(10)
    driver.save_snapshot(name, machine.tag, "full")
    empty, full = (each.size or 0 for each in driver.snapshots(name, machine.tag))
    assert full - empty >= 2 * 64 * 1024
