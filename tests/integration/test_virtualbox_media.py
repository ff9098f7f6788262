"""The VirtualBox driver on the real VBoxManage, which does all but start machines: disks, settings, snapshots, ends."""

# ruff: noqa: PLR0917  pytest passes fixtures by name

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import structs

from tests.host.virtualbox.install import Installation
from tests.integration.virtualbox_parts import (
    SIZE,
    assert_nothing_is_left,
    door,
    driver,
    home,
    installation,
    make_disk,
    numbered,
    set_trap,
    shown,
)
from tests.unit.virtualbox_definition import definition, nic
from vmctl.boxes import adding, packing
from vmctl.boxes.box import PUBLISHED
from vmctl.boxes.request import Request
from vmctl.driver import Definition, Disk, Share, State
from vmctl.errors import UsageError, VmctlError, WrongState
from vmctl.layout import HomeLayout
from vmctl.process import find, run
from vmctl.spec import MIB
from vmctl_virtualbox import VirtualBoxDriver, answers, machine_mark
from vmctl_virtualbox.vboxmanage import VBoxManage

__all__ = ["door", "driver", "home", "installation"]

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.integration


@pytest.fixture
def machine(tmp_path: Path) -> Definition:
    made = structs.replace(
        definition(nics=(nic(),), disk=2 * SIZE),
        console=tmp_path / "console.log",
        seed=tmp_path / "seed, ü.iso",
        shares=(
            Share(tag="project", host=tmp_path, kind="vboxsf"),
            Share(tag="ro", host=tmp_path, kind="vboxsf", read_only=True),
        ),
    )
    write_iso(tmp_path / "seed, ü.iso")
    return made


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return make_disk(tmp_path, "qcow2")


def write_iso(path: Path) -> None:
    import pycdlib

    image = pycdlib.PyCdlib()
    image.new(joliet=3, vol_ident="cidata")
    image.write(str(path))
    image.close()


def settled(door: VBoxManage, name: str) -> dict[str, str]:
    """As ``shown``, without what changes by itself when VirtualBox's server ends and reads its files again."""
    volatile = ("VMStateChangeTime", "localhostReachable")
    return {key: value for key, value in shown(door, name).items() if key not in volatile}


def test_a_machine_has_what_its_definition_says(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path
) -> None:
    driver.check(machine)
    driver.create(machine, disk)
    found = shown(door, machine.name)
    assert found["firmware"] == "BIOS"
    assert (found["rtcuseutc"], found["defaultfrontend"], found["audio"]) == ("on", "headless", "null")
    assert (found["macaddress1"], found["nictype1"], found["nic1"]) == ("5254000A1B2C", "virtio", "nat")
    assert sorted(rule.name for rule in answers.rules(found)) == ["a_b", "ssh"]
    assert (found["nic2"], found["intnet2"]) == ("intnet", "vmctl-0a1b2c3d-backend")
    assert found["uartmode1"] == f"file,{tmp_path / 'console.log'}"
    assert found["disks-1-0"] == str(machine.seed)
    assert found["storagecontrollertype0"] == "VirtioSCSI"
    assert set(answers.shares(found)) == {"project", "ro"}
    medium = next(answers.records(door("showmediuminfo", "disk", found["disks-ImageUUID-0-0"])))
    assert medium["Type"] == "normal (differencing)"
    assert medium["Capacity"] == "128 MBytes"


def test_two_machines_share_one_base_and_the_last_one_leaves_it(
    driver: VirtualBoxDriver, machine: Definition, disk: Disk, home: Path
) -> None:
    other = structs.replace(machine, name="shop-db-0a1b2c3d", tag=structs.replace(machine.tag, machine="db"))
    driver.create(machine, disk)
    driver.create(other, disk)
    base = home / "virtualbox/bases" / f"{disk.digest}.vdi"
    before = base.read_bytes()
    driver.destroy(machine.name, machine.tag)
    assert set(driver.states()) == {other.name}
    driver.destroy(other.name, other.tag)
    assert base.read_bytes() == before


@pytest.mark.parametrize("kind", ["raw", "vdi", "vmdk", "qcow2"])
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_every_format_of_box(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, tmp_path: Path, kind: str, firmware: str
) -> None:
    disk = structs.replace(make_disk(tmp_path, kind), firmware=firmware)
    driver.create(machine, disk)
    found = shown(door, machine.name)
    assert found["firmware"] == ("EFI" if firmware == "uefi" else "BIOS")
    assert found["storagecontrollertype0"] == ("VirtioSCSI" if kind in ("raw", "qcow2") else "IntelAhci")


@pytest.mark.parametrize("kind", ["raw", "vdi", "vmdk"])
def test_without_qemu_img_virtualbox_converts(
    driver: VirtualBoxDriver,
    machine: Definition,
    tmp_path: Path,
    kind: str,
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = make_disk(tmp_path, kind)
    hide_qemu_img(monkeypatch)
    driver.create(machine, disk)
    assert driver.states()[machine.name].state is State.STOPPED


def test_without_qemu_img_a_qcow2_box_is_refused(
    driver: VirtualBoxDriver, machine: Definition, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_qemu_img(monkeypatch)
    with pytest.raises(VmctlError) as caught:
        driver.create(machine, disk)
    assert "qemu-utils" in caught.value.hint
    assert driver.states() == {}


def hide_qemu_img(monkeypatch: pytest.MonkeyPatch) -> None:
    from vmctl import process

    real = process.find

    def found(program: str, *, package: str = "") -> str:
        if program == "qemu-img":
            raise process.ProgramMissing("the program 'qemu-img' is not installed")
        return real(program, package=package)

    monkeypatch.setattr(process, "find", found)


def test_a_full_copy_needs_no_base(driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk) -> None:
    spec = structs.replace(machine.spec, options={"virtualbox": {"linked_clone": False}})
    driver.create(structs.replace(machine, spec=spec), disk)
    media = list(answers.records(door("list", "hdds")))
    assert [medium["Parent UUID"] for medium in media] == ["base"]


def test_a_stopped_machine_follows_its_definition(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk
) -> None:
    driver.create(machine, disk)
    spec = structs.replace(machine.spec, cpus=3, memory=512 * MIB, disk=4 * SIZE)
    driver.update(structs.replace(machine, spec=spec, nics=(), shares=(), forwards=machine.forwards[:1], seed=None))
    found = shown(door, machine.name)
    assert (found["cpus"], found["memory"], found["nic2"], found["disks-1-0"]) == ("3", "512", "none", "emptydrive")
    assert [rule.name for rule in answers.rules(found)] == ["ssh"]
    assert answers.shares(found) == ()
    medium = next(answers.records(door("showmediuminfo", "disk", found["disks-ImageUUID-0-0"])))
    assert medium["Capacity"] == "256 MBytes"
    with pytest.raises(UsageError, match="disk"):
        driver.update(machine)


def test_commands_of_the_user_run_around_a_start(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk
) -> None:
    customize = [["setextradata", ":id", "seen", "pre ü"], ["post-boot", "setextradata", ":id", "seen", "post"]]
    spec = structs.replace(machine.spec, options={"virtualbox": {"customize": customize}})
    driver.create(structs.replace(machine, spec=spec), disk)
    with pytest.raises(VmctlError, match="VirtualBox"):
        driver.start(machine.name, machine.tag)  # there is no kernel module
    assert "pre ü" in door("getextradata", machine_mark.identifier(machine.name), "seen")


def test_snapshots_form_a_tree(driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk) -> None:
    driver.create(machine, disk)
    assert driver.snapshots(machine.name, machine.tag) == ()
    with pytest.raises(UsageError, match="vmctl-deleted-"):
        driver.save_snapshot(machine.name, machine.tag, "vmctl-deleted-mine")
    first = driver.save_snapshot(machine.name, machine.tag, "first 'ü'")
    assert (first.parent, first.memory, first.current) == ("", False, True)
    driver.save_snapshot(machine.name, machine.tag, "second")
    driver.restore_snapshot(machine.name, machine.tag, "first 'ü'")
    driver.save_snapshot(machine.name, machine.tag, "third")
    tree = {each.name: each.parent for each in driver.snapshots(machine.name, machine.tag)}
    assert tree == {"first 'ü'": "", "second": "first 'ü'", "third": "first 'ü'"}
    with pytest.raises(WrongState, match="already"):
        driver.save_snapshot(machine.name, machine.tag, "third")
    again = driver.save_snapshot(machine.name, machine.tag, "third", replace=True)
    assert again.current
    driver.remove_snapshot(machine.name, machine.tag, "first 'ü'")  # which VirtualBox itself cannot, with two on it
    assert {each.name: each.parent for each in driver.snapshots(machine.name, machine.tag)} == {
        "second": "",
        "third": "",
    }
    for _ in range(2):
        driver.remove_snapshot(machine.name, machine.tag, "second")
        assert [(each.name, each.current) for each in driver.snapshots(machine.name, machine.tag)] == [("third", True)]
    assert door("snapshot", machine_mark.identifier(machine.name), "list").count("UUID") == 1
    with pytest.raises(WrongState, match="no snapshot"):
        driver.restore_snapshot(machine.name, machine.tag, "second")
    # The disk grows where a snapshot stands below it, too.
    spec = structs.replace(machine.spec, disk=8 * SIZE)
    driver.update(structs.replace(machine, spec=spec))


def test_a_saved_machine_is_saved_until_it_is_stopped(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path
) -> None:
    driver.create(machine, disk)
    state = tmp_path / "memory.sav"
    state.write_bytes(b"memory")
    door("adoptstate", machine_mark.identifier(machine.name), state)
    assert driver.states()[machine.name].state is State.SAVED
    driver.suspend(machine.name, machine.tag)
    with pytest.raises(WrongState, match="hardware can change only when it is off"):
        driver.update(machine)
    driver.stop(machine.name, machine.tag)
    assert driver.states()[machine.name].state is State.SAVED
    driver.stop(machine.name, machine.tag, force=True)
    assert driver.states()[machine.name].state is State.STOPPED


def test_a_machine_that_the_gui_renamed_and_moved_goes_with_its_files_alone(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path
) -> None:
    driver.create(machine, disk)
    driver.save_snapshot(machine.name, machine.tag, "first")
    uuid = machine_mark.identifier(machine.name)
    door("modifyvm", uuid, "--name", "by hand")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "by hand").mkdir(parents=True)
    precious = elsewhere / "by hand" / "thesis.txt"
    precious.write_text("years")
    door("movevm", uuid, "--folder", elsewhere)
    assert driver.states()[machine.name].state is State.STOPPED
    driver.destroy(machine.name, machine.tag)
    assert sorted(path.name for path in elsewhere.rglob("*")) == ["by hand", "thesis.txt"]


def test_disks_that_the_user_attached_stay(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path
) -> None:
    driver.create(machine, disk)
    own = tmp_path / "own.vdi"
    door("createmedium", "disk", "--filename", own, "--size", "16")
    port = ("--storagectl", "disks", "--port", "3", "--device", "0")
    door("storageattach", machine_mark.identifier(machine.name), *port, "--type", "hdd", "--medium", own)
    driver.destroy(machine.name, machine.tag)
    assert own.exists()


def test_an_inaccessible_machine_is_named_and_can_be_destroyed(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, installation: Installation, home: Path
) -> None:
    driver.create(machine, disk)
    settings = Path(shown(door, machine.name)["CfgFile"])
    installation.stop()  # VirtualBox looks at the files when it starts
    settings.rename(settings.with_suffix(".away"))
    observed = driver.states()[machine.name]
    assert (observed.state, observed.raw) == (State.UNKNOWN, "inaccessible")
    with pytest.raises(WrongState, match="cannot read the files"):
        driver.start(machine.name, machine.tag)
    driver.destroy(machine.name, machine.tag)
    assert driver.states() == {}


def test_a_foreign_machine_is_never_touched(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, tmp_path: Path
) -> None:
    uuid = machine_mark.identifier(machine.name)
    door("createvm", "--name", machine.name, "--basefolder", tmp_path, "--uuid", uuid, "--register")
    try:
        assert driver.states() == {}
        with pytest.raises(VmctlError, match="was not made by vmctl"):
            driver.create(machine, disk)
        with pytest.raises(VmctlError, match="does not touch it"):
            driver.destroy(machine.name, machine.tag)
        assert uuid in door("list", "vms")
    finally:
        door("unregistervm", uuid, "--delete")


# -- faults

WORDS = [
    *("createvm", "createmedium", "modifymedium", "storagectl"),
    *("storageattach", "modifyvm", "sharedfolder", "setextradata"),
]


@pytest.fixture
def interfere(installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    front = tmp_path / "bin"
    front.mkdir()
    monkeypatch.setenv("PATH", f"{front}:{os.environ['PATH']}")
    return front / "VBoxManage"


@pytest.mark.parametrize("word", WORDS)
def test_a_create_that_fails_anywhere_leaves_nothing(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, home: Path,
    installation: Installation, interfere: Path, word: str,
) -> None:  # fmt: skip
    set_trap(interfere, installation, word, "echo 'VBoxManage: error: disk full' >&2; exit 0")
    with pytest.raises(VmctlError, match="disk full"):
        driver.create(machine, disk)
    assert driver.states() == {}
    assert_nothing_is_left(door, home)
    driver.create(machine, disk)
    assert driver.states()[machine.name].state is State.STOPPED


BUSY = """#!/bin/sh
asked=$(cat "{flag}-$1" 2>/dev/null || echo 0)
if [ "$asked" -lt 2 ]; then
  echo $((asked + 1)) >"{flag}-$1"
  echo "VBoxManage: error: The machine 'x' is already locked by a session (or being locked or unlocked)" >&2
  echo "VBoxManage: error: Details: code VBOX_E_INVALID_OBJECT_STATE (0x80bb0007), component MachineWrap" >&2
  exit 1
fi
exec {real} "$@"
"""


def test_every_call_may_find_the_machine_busy_for_a_while(
    driver: VirtualBoxDriver, machine: Definition, disk: Disk, installation: Installation, interfere: Path
) -> None:
    interfere.write_text(BUSY.format(flag=interfere.with_name("asked"), real=installation.bin / "VBoxManage"))
    interfere.chmod(0o755)
    driver.create(machine, disk)
    driver.save_snapshot(machine.name, machine.tag, "first")
    driver.restore_snapshot(machine.name, machine.tag, "first")
    driver.update(structs.replace(machine, shares=()))
    driver.remove_snapshot(machine.name, machine.tag, "first")
    driver.destroy(machine.name, machine.tag)
    asked = {path.name.removeprefix("asked-") for path in interfere.parent.glob("asked-*")}
    assert asked >= {*WORDS, "showvminfo", "snapshot", "list", "getextradata", "unregistervm", "closemedium"}


@pytest.mark.parametrize("word", ["showvminfo", "unregistervm", "list", "closemedium", "getextradata", "setextradata"])
def test_a_destroy_that_fails_anywhere_is_finished_by_the_next(
    driver: VirtualBoxDriver, door: VBoxManage, machine: Definition, disk: Disk, home: Path,
    installation: Installation, interfere: Path, word: str,
) -> None:  # fmt: skip
    driver.create(machine, disk)
    driver.save_snapshot(machine.name, machine.tag, "first")
    set_trap(interfere, installation, word, "echo 'VBoxManage: error: out of order' >&2; exit 1")
    with pytest.raises(VmctlError, match="out of order"):
        driver.destroy(machine.name, machine.tag)
    driver.destroy(machine.name, machine.tag)
    assert_nothing_is_left(door, home)


def test_a_snapshot_that_fails_leaves_the_older_one_of_its_name(
    driver: VirtualBoxDriver, machine: Definition, disk: Disk, installation: Installation, interfere: Path
) -> None:
    driver.create(machine, disk)
    driver.save_snapshot(machine.name, machine.tag, "first", note="older")
    set_trap(interfere, installation, "snapshot", "echo 'VBoxManage: error: disk full' >&2; exit 1")
    with pytest.raises(VmctlError, match="disk full"):
        driver.save_snapshot(machine.name, machine.tag, "first", replace=True, note="newer")
    assert [each.note for each in driver.snapshots(machine.name, machine.tag)] == ["older"]
    # Killed between the two halves of a replacement: the newer one counts, and the next command puts the rest away.
    door = VBoxManage()
    door("snapshot", machine_mark.identifier(machine.name), "take", "first", "--description", "newer")
    assert [each.note for each in driver.snapshots(machine.name, machine.tag)] == ["newer"]
    driver.save_snapshot(machine.name, machine.tag, "first", replace=True, note="newest")
    assert [each.note for each in driver.snapshots(machine.name, machine.tag)] == ["newest"]
    assert door("snapshot", machine_mark.identifier(machine.name), "list").count("first") == 1


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("after", ["create", "destroy"])
def test_a_killed_create_is_made_good_by_the_next_command(
    driver: VirtualBoxDriver, machine: Definition, disk: Disk, home: Path, tmp_path: Path,
    installation: Installation, interfere: Path, word: str, after: str,
) -> None:  # fmt: skip
    set_trap(interfere, installation, word, f'{installation.bin / "VBoxManage"} "$@"; kill -9 $PPID; sleep 1; exit 1')
    killed = subprocess.run(
        [sys.executable, "-c", CREATE, pickled(machine, disk, home, tmp_path)], check=False, cwd=REPOSITORY
    )
    assert killed.returncode == -9
    assert driver.states() == {}  # what is half made does not count as there
    if after == "create":
        driver.create(machine, disk)
        assert driver.states()[machine.name].state is State.STOPPED
    else:
        driver.destroy(machine.name, machine.tag)


CREATE = """
import pickle, sys
sys.path[:0] = [".", "providers"]
from pathlib import Path
from vmctl.driver import Host
from vmctl_virtualbox import VirtualBoxDriver
machine, disk, home = pickle.loads(Path(sys.argv[1]).read_bytes())
VirtualBoxDriver(Host(home=home)).create(machine, disk)
"""


def pickled(machine: Definition, disk: Disk, home: Path, directory: Path) -> str:
    import pickle

    path = directory / "create.pickle"
    path.write_bytes(pickle.dumps((machine, disk, home)))
    return str(path)


def test_machines_made_at_the_same_time_do_not_meet(driver: VirtualBoxDriver, machine: Definition, disk: Disk) -> None:
    many = [
        structs.replace(machine, name=f"{machine.name}-{number}", tag=structs.replace(machine.tag, machine=str(number)))
        for number in range(6)
    ]
    with ThreadPoolExecutor(len(many)) as pool:
        list(pool.map(lambda each: driver.create(each, disk), many))
        assert len(driver.states()) == len(many)
        list(pool.map(lambda each: driver.destroy(each.name, each.tag), many))


def test_states_takes_two_calls_for_any_number_of_machines(
    driver: VirtualBoxDriver, machine: Definition, disk: Disk, installation: Installation, interfere: Path
) -> None:
    for number in range(3):
        driver.create(numbered(machine, number), disk)
    calls = interfere.with_name("calls")
    interfere.write_text(f'#!/bin/sh\necho "$@" >>{calls}\nexec {installation.bin / "VBoxManage"} "$@"\n')
    interfere.chmod(0o755)
    assert len(driver.states()) == 3
    assert len(calls.read_text().splitlines()) == 2


@pytest.mark.parametrize(("size", "options"), [(None, {}), (2 * SIZE, {"virtualbox": {"linked_clone": False}})])
def test_a_machine_becomes_a_box_by_way_of_a_copy(
    driver: VirtualBoxDriver,
    door: VBoxManage,
    machine: Definition,
    tmp_path: Path,
    size: int | None,
    options: dict[str, dict[str, bool]],
) -> None:
    disk = make_disk(tmp_path, "qcow2")
    run([find("qemu-io"), "-f", "qcow2", "-c", "write -P 7 1M 64k", disk.path])
    run([find("qemu-io"), "-f", "qcow2", "-c", "write -P 0xaa 511 1", "-c", "write -P 0x55 510 1", disk.path])
    machine = structs.replace(machine, spec=structs.replace(machine.spec, disk=size, options=options))
    driver.create(machine, disk)
    before = settled(door, machine.name)
    copy = structs.replace(machine, name=f"{machine.name}.package", console=tmp_path / "copy.log", nics=(), shares=())
    driver.clone(copy, machine.name, machine.tag)
    assert shown(door, copy.name)["storagecontrollertype0"] == "VirtioSCSI"
    assert settled(door, machine.name) == before

    target = tmp_path / "exported"
    target.mkdir()
    exported = driver.export(copy.name, copy.tag, target)
    assert exported.descriptor == target / "box.ovf"
    assert [path.suffix for path in exported.disks] == [".vmdk"]
    text = (target / "box.ovf").read_text()
    assert str(tmp_path) not in text
    assert "127.0.0.1" not in text
    driver.destroy(copy.name, copy.tag)
    assert settled(door, machine.name) == before
    door("import", exported.descriptor, "--vsys", "0", "--vmname", "imported")  # as Vagrant does
    imported = answers.properties(door("showvminfo", "imported", "--machinereadable"))
    assert (imported["nic1"], imported["uart1"]) == ("nat", "off")
    assert [word for word in imported if word.startswith("Forwarding")] == []
    door("unregistervm", "imported", "--delete")

    contents = packing.Contents(disks=exported.disks, descriptor=exported.descriptor, arch="x86_64", user="me",
                                mac=machine.mac)  # fmt: skip
    packing.write(contents, tmp_path / "my.box")
    box, _ = adding.add(Request(address=str(tmp_path / "my.box")), HomeLayout(tmp_path / "store"))
    assert (box.user, box.virtual_size, box.first_key) == ("me", size or SIZE, PUBLISHED)
    assert box.provenance["vagrant"]["provider"] == "virtualbox"
    assert box.provenance["vagrant"]["mac"] == machine.mac
    run([find("qemu-io"), "-r", "-f", "qcow2", "-c", "read -P 7 1M 64k", box.path])


def test_an_enlarged_linked_disk_can_not_be_packaged(driver: VirtualBoxDriver, machine: Definition, disk: Disk) -> None:
    driver.create(machine, disk)
    with pytest.raises(UsageError, match="larger than the box it stands on") as caught:
        driver.clone(structs.replace(machine, name=f"{machine.name}.package"), machine.name, machine.tag)
    assert "linked_clone: false" in caught.value.hint
    assert list(driver.states()) == [machine.name]
