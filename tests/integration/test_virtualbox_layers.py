"""Layers and bases on the real VBoxManage: what is in them, what stands on them, and what a kill or damage leaves."""

# ruff: noqa: PLR0917  pytest passes fixtures by name

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import structs

from tests.host.virtualbox.install import Installation
from tests.integration.virtualbox_parts import (
    SIZE,
    door,
    driver,
    home,
    installation,
    make_disk,
    numbered,
    set_trap,
    shown,
)
from tests.unit.virtualbox_definition import definition
from vmctl.driver import Definition, Disk, State
from vmctl.errors import UsageError, VmctlError, WrongState
from vmctl.spec import MIB
from vmctl_virtualbox import VirtualBoxDriver, answers, hardware, machine_mark, vdi
from vmctl_virtualbox.vboxmanage import VBoxManage

__all__ = ["door", "driver", "home", "installation"]

REPOSITORY = Path(__file__).parents[2]
FIRST, SECOND, THIRD = (letter * 64 for letter in "abc")
FULL_COPY = {"virtualbox": {"linked_clone": False}}

pytestmark = pytest.mark.integration


@pytest.fixture
def machine(tmp_path: Path) -> Definition:
    return structs.replace(definition(), console=tmp_path / "console.log", seed=None)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return make_disk(tmp_path, "qcow2")


def root(door: VBoxManage, name: str) -> dict[str, str]:
    """What VirtualBox says of the machine's disk."""
    uuid = hardware.root_disk(shown(door, name))
    return next(answers.records(door("showmediuminfo", "disk", uuid)))


def write(door: VBoxManage, name: str, number: int, value: int) -> None:
    """Fill a mebibyte of a stopped machine's disk, which its file does not have yet, as its guest might."""
    with Path(root(door, name)["Location"]).open("r+b") as file:
        head = file.read(512)
        blocks, data = struct.unpack_from("<II", head, 340)
        (present,) = struct.unpack_from("<I", head, 388)
        file.seek(blocks + 4 * number)
        file.write(struct.pack("<I", present))
        file.seek(data + present * MIB)
        file.write(bytes([value]) * MIB)
        file.seek(388)
        file.write(struct.pack("<I", present + 1))


def content(door: VBoxManage, name: str, path: Path) -> bytes:
    """The first byte of each of the first four mebibytes of a machine's disk."""
    target = path / f"{name}.raw"
    door("clonemedium", "disk", root(door, name)["UUID"], target, "--format", "RAW")
    door("closemedium", "disk", target)
    data = target.read_bytes()
    target.unlink()
    return bytes(data[number * MIB] for number in range(4))


def on(disk: Disk, key: str) -> Disk:
    return structs.replace(disk, layer=key)


def test_a_layer_is_what_the_machine_wrote_until_then_on_what_it_stood_on(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path, home: Path
) -> None:
    driver.create(machine, disk)
    write(door, machine.name, 1, 7)
    before = shown(door, machine.name)
    assert driver.freeze(machine.name, machine.tag, FIRST)
    write(door, machine.name, 2, 8)
    assert content(door, machine.name, tmp_path) == bytes([0, 7, 8, 0])
    assert shown(door, machine.name) == before, "it has the disk that it had"
    (layer,) = driver.layers()
    assert layer.key == FIRST
    assert not layer.needed
    assert MIB <= layer.size < 4 * MIB, "not the box's"
    other = numbered(machine, 2)
    driver.create(other, on(disk, FIRST))
    assert content(door, other.name, tmp_path) == bytes([0, 7, 0, 0])
    write(door, other.name, 3, 9)
    driver.freeze(other.name, other.tag, SECOND)
    third = numbered(machine, 3)
    driver.create(third, on(disk, SECOND))
    assert content(door, third.name, tmp_path) == bytes([0, 7, 0, 9])
    (path,) = (home / "virtualbox" / "layers" / SECOND).iterdir()
    head = vdi.read(path)
    assert head is not None
    assert head.uuid == root(door, third.name)["Parent UUID"]


def test_layers_are_as_good_after_virtualbox_has_ended_and_read_its_files_again(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path,
    installation: Installation,
) -> None:  # fmt: skip
    driver.create(machine, disk)
    write(door, machine.name, 1, 7)
    driver.freeze(machine.name, machine.tag, FIRST)
    driver.destroy(machine.name, machine.tag)
    many = [numbered(machine, number) for number in range(3)]
    for each in many[:2]:
        driver.create(each, on(disk, FIRST))
    installation.stop()
    driver.create(many[2], on(disk, FIRST))
    driver.destroy(many[0].name, many[0].tag)
    installation.stop()
    assert {seen.state for seen in driver.states().values()} == {State.STOPPED}
    for each in many[1:]:
        assert content(door, each.name, tmp_path) == bytes([0, 7, 0, 0])
    assert not driver.remove_layer(FIRST)


def test_snapshots_of_the_machine_go_into_its_layer(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path
) -> None:
    driver.create(machine, disk)
    write(door, machine.name, 1, 7)
    driver.save_snapshot(machine.name, machine.tag, "one")
    write(door, machine.name, 2, 8)
    driver.freeze(machine.name, machine.tag, FIRST)
    assert [each.name for each in driver.snapshots(machine.name, machine.tag)] == ["one"]
    driver.destroy(machine.name, machine.tag)
    driver.create(machine, on(disk, FIRST))
    assert content(door, machine.name, tmp_path) == bytes([0, 7, 8, 0])
    driver.save_snapshot(machine.name, machine.tag, "two")
    write(door, machine.name, 3, 9)
    driver.freeze(machine.name, machine.tag, SECOND)
    driver.destroy(machine.name, machine.tag)
    driver.create(machine, on(disk, SECOND))
    assert content(door, machine.name, tmp_path) == bytes([0, 7, 8, 9])


def test_full_copies_make_layers_that_need_no_base_and_copies_of_those(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path
) -> None:
    machine = structs.replace(machine, spec=structs.replace(machine.spec, options=FULL_COPY, disk=2 * SIZE))
    driver.create(machine, disk)
    write(door, machine.name, 1, 7)
    driver.freeze(machine.name, machine.tag, FIRST)
    driver.destroy(machine.name, machine.tag)
    assert [copy.needed for copy in driver.box_copies()] == [False]
    driver.create(machine, on(disk, FIRST))
    assert root(door, machine.name)["Parent UUID"] == "base"
    assert content(door, machine.name, tmp_path) == bytes([0, 7, 0, 0])
    assert [layer.needed for layer in driver.layers()] == [False]


def test_a_machine_on_a_layer_may_be_larger_and_never_smaller(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk
) -> None:
    def sized(size: int) -> Definition:
        return structs.replace(machine, spec=structs.replace(machine.spec, disk=size))

    driver.create(sized(2 * SIZE), disk)
    driver.freeze(machine.name, machine.tag, FIRST)
    driver.destroy(machine.name, machine.tag)
    with pytest.raises(UsageError, match="cannot shrink"):
        driver.create(sized(SIZE), on(disk, FIRST))
    assert driver.states() == {}
    driver.create(sized(4 * SIZE), on(disk, FIRST))
    assert root(door, machine.name)["Capacity"] == "256 MBytes"
    driver.destroy(machine.name, machine.tag)
    driver.create(machine, on(disk, FIRST))
    assert root(door, machine.name)["Capacity"] == "128 MBytes"


def test_what_a_layer_cannot_keep_makes_none(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path
) -> None:
    driver.create(machine, disk)
    (tmp_path / "memory.sav").write_bytes(b"memory")
    door("adoptstate", machine_mark.identifier(machine.name), tmp_path / "memory.sav")
    with pytest.raises(WrongState, match="is saved") as caught:
        driver.freeze(machine.name, machine.tag, FIRST)
    assert caught.value.hint == "vmctl resume"
    driver.stop(machine.name, machine.tag, force=True)
    own = tmp_path / "own.vdi"
    door("createmedium", "disk", "--filename", own, "--size", "16")
    port = ("--storagectl", "disks", "--port", "3", "--device", "0")
    door("storageattach", machine_mark.identifier(machine.name), *port, "--type", "hdd", "--medium", own)
    with pytest.raises(WrongState, match="did not make") as caught:
        driver.freeze(machine.name, machine.tag, FIRST)
    assert str(own) in caught.value.details
    assert driver.layers() == ()
    driver.destroy(machine.name, machine.tag)
    door("closemedium", "disk", own)


def test_a_machine_that_was_moved_still_stands_on_its_layer(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path,
    installation: Installation,
) -> None:  # fmt: skip
    driver.create(machine, disk)
    driver.freeze(machine.name, machine.tag, FIRST)
    driver.destroy(machine.name, machine.tag)
    driver.create(machine, on(disk, FIRST))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    door("movevm", machine_mark.identifier(machine.name), "--folder", elsewhere)
    assert not driver.remove_layer(FIRST)
    assert driver.freeze(machine.name, machine.tag, SECOND)
    driver.destroy(machine.name, machine.tag)
    driver.create(machine, on(disk, SECOND))
    settings = Path(shown(door, machine.name)["CfgFile"])
    installation.stop()
    settings.rename(settings.with_suffix(".away"))  # now VirtualBox cannot tell what stands on what
    assert not driver.remove_layer(SECOND)
    assert [copy.needed for copy in driver.box_copies()] == [True]


@pytest.mark.parametrize("damage", ["truncated", "swapped", "emptied", "without its base"])
def test_a_damaged_layer_makes_no_machine_and_is_made_again(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, home: Path, tmp_path: Path, damage: str
) -> None:
    driver.create(machine, disk)
    write(door, machine.name, 1, 7)
    driver.freeze(machine.name, machine.tag, FIRST)
    driver.destroy(machine.name, machine.tag)
    path = home / "virtualbox" / "layers" / FIRST / "1.vdi"
    if damage == "truncated":
        os.truncate(path, path.stat().st_size - 1)
    elif damage == "swapped":
        path.write_bytes(disk.path.read_bytes())
    elif damage == "emptied":
        path.unlink()
    else:
        (home / "virtualbox" / "bases" / f"{disk.digest}.vdi").unlink()
    with pytest.raises(WrongState, match="damaged"):
        driver.create(machine, on(disk, FIRST))
    assert driver.states() == {}
    driver.create(machine, disk)
    write(door, machine.name, 1, 7)
    assert driver.freeze(machine.name, machine.tag, FIRST)
    driver.destroy(machine.name, machine.tag)
    driver.create(machine, on(disk, FIRST))
    assert content(door, machine.name, tmp_path) == bytes([0, 7, 0, 0])


def test_bases_are_copies_that_go_when_nothing_stands_on_them(
    driver: VirtualBoxDriver, machine: Definition, disk: Disk, home: Path
) -> None:
    driver.create(machine, disk)
    (copy,) = driver.box_copies()
    assert (copy.key, copy.needed) == (disk.digest, True)
    base = home / "virtualbox" / "bases" / f"{disk.digest}.vdi"
    assert copy.made == base.stat().st_mtime
    assert not driver.remove_box_copy(disk.digest)
    driver.freeze(machine.name, machine.tag, FIRST)
    driver.destroy(machine.name, machine.tag)
    assert not driver.remove_box_copy(disk.digest), "a layer stands on it"
    driver.remove_layer(FIRST)
    assert driver.remove_box_copy(disk.digest)
    assert not base.exists()
    assert driver.remove_box_copy(disk.digest), "absent: nothing to do"
    driver.create(machine, disk)


def test_machines_of_one_layer_are_made_frozen_and_destroyed_at_the_same_time(
    driver: VirtualBoxDriver, machine: Definition, disk: Disk
) -> None:
    driver.create(machine, disk)
    driver.freeze(machine.name, machine.tag, FIRST)
    many = [numbered(machine, number) for number in range(4)]

    def day(each: Definition) -> bool:
        driver.create(each, on(disk, FIRST))
        made = driver.freeze(each.name, each.tag, SECOND)
        driver.destroy(each.name, each.tag)
        driver.remove_layer(FIRST)  # there always is somebody, or a layer, that stands on it
        return made

    with ThreadPoolExecutor(len(many)) as pool:
        assert sorted(pool.map(day, many)) == [False, False, False, True]
    assert {layer.key for layer in driver.layers()} == {FIRST, SECOND}


# -- faults

FREEZE = """
import pickle, sys
sys.path[:0] = [".", "providers"]
from pathlib import Path
from vmctl.driver import Host
from vmctl_virtualbox import VirtualBoxDriver
machine, home, key, verb = pickle.loads(Path(sys.argv[1]).read_bytes())
driver = VirtualBoxDriver(Host(home=home))
driver.freeze(machine.name, machine.tag, key) if verb == "freeze" else driver.remove_layer(key)
"""


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    front = tmp_path / "bin"
    front.mkdir()
    monkeypatch.setenv("PATH", f"{front}:{os.environ['PATH']}")
    return front / "VBoxManage"


def killed(machine: Definition, home: Path, directory: Path, verb: str) -> None:
    stated = directory / "said.pickle"
    stated.write_bytes(pickle.dumps((machine, home, FIRST, verb)))
    done = subprocess.run([sys.executable, "-c", FREEZE, stated], check=False, cwd=REPOSITORY)
    assert done.returncode == -9


@pytest.mark.parametrize("then", ["freeze", "destroy"])
def test_a_killed_freeze_leaves_no_layer_and_nothing_else_for_long(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, home: Path, tmp_path: Path,
    installation: Installation, trap: Path, then: str,
) -> None:  # fmt: skip
    driver.create(machine, disk)
    write(door, machine.name, 1, 7)
    kill = f'{installation.bin / "VBoxManage"} "$@"; kill -9 $PPID; sleep 1; exit 1'
    set_trap(trap, installation, "internalcommands", kill)
    killed(machine, home, tmp_path, "freeze")
    assert driver.layers() == ()
    assert len(list((home / "virtualbox" / "layers").iterdir())) == 1
    if then == "freeze":
        assert driver.freeze(machine.name, machine.tag, FIRST)
        driver.create(numbered(machine, 2), on(disk, FIRST))
        assert content(door, numbered(machine, 2).name, tmp_path) == bytes([0, 7, 0, 0])
    else:
        driver.destroy(machine.name, machine.tag)
        assert list((home / "virtualbox" / "layers").iterdir()) == []


def test_a_freeze_that_fails_leaves_no_layer(
    driver: VirtualBoxDriver, machine: Definition, disk: Disk, home: Path, installation: Installation, trap: Path
) -> None:
    driver.create(machine, disk)
    set_trap(trap, installation, "internalcommands", "echo 'VBoxManage: error: disk full' >&2; exit 1")
    with pytest.raises(VmctlError, match="disk full"):
        driver.freeze(machine.name, machine.tag, FIRST)
    assert list((home / "virtualbox" / "layers").iterdir()) == []
    assert driver.freeze(machine.name, machine.tag, FIRST)


@pytest.mark.parametrize("word", ["showmediuminfo", "createmedium"])
def test_a_killed_create_on_a_layer_is_made_good_by_the_next_command(
    driver: VirtualBoxDriver, machine: Definition, disk: Disk, home: Path, tmp_path: Path,
    installation: Installation, trap: Path, word: str,
) -> None:  # fmt: skip
    driver.create(machine, disk)
    driver.freeze(machine.name, machine.tag, FIRST)
    driver.destroy(machine.name, machine.tag)
    set_trap(trap, installation, word, f'{installation.bin / "VBoxManage"} "$@"; kill -9 $PPID; sleep 1; exit 1')
    stated = tmp_path / "said.pickle"
    stated.write_bytes(pickle.dumps((machine, on(disk, FIRST), home)))
    create = FREEZE.partition("machine, ")[0] + (
        "machine, disk, home = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "VirtualBoxDriver(Host(home=home)).create(machine, disk)\n"
    )
    done = subprocess.run([sys.executable, "-c", create, stated], check=False, cwd=REPOSITORY)
    assert done.returncode == -9
    assert driver.states() == {}
    driver.create(machine, on(disk, FIRST))
    assert not driver.remove_layer(FIRST)
