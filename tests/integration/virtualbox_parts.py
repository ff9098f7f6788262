"""What tests of the VirtualBox driver with the real VBoxManage share: its installation, disks, and traps in its way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.host.virtualbox.install import Installation, installed
from vmctl.driver import Definition, Disk, Host
from vmctl.process import find, run
from vmctl.spec import MIB
from vmctl_virtualbox import VirtualBoxDriver, answers, machine_mark
from vmctl_virtualbox.vboxmanage import VBoxManage

SIZE = 64 * MIB
INTERFERING = """#!/bin/sh
case "$1" in
  {word}) [ ! -e {flag} ] && {{ : >{flag}; {action}; }} ;;
esac
exec {real} "$@"
"""


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """One for all tests, each of which leaves nothing in it: VirtualBox's server takes longer to start than they do."""
    with installed(front=False) as made:
        yield made


@pytest.fixture
def door(installation: Installation) -> VBoxManage:
    return VBoxManage()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home ü 'x'"


def make_disk(directory: Path, kind: str) -> Disk:
    path = directory / f"box.{kind}"
    run([find("qemu-img"), "create", "-q", "-f", kind, path, str(SIZE)])
    return Disk(path=path, format=kind, digest=(kind.encode().hex() + "0" * 64)[:64], virtual_size=SIZE)


def numbered(machine: Definition, number: int) -> Definition:
    tag = structs.replace(machine.tag, machine=str(number))
    return structs.replace(machine, name=f"{machine.name}-{number}", tag=tag)


def shown(door: VBoxManage, name: str) -> dict[str, str]:
    return answers.properties(door("showvminfo", machine_mark.identifier(name), "--machinereadable"))


def assert_nothing_is_left(door: VBoxManage, home: Path) -> None:
    assert door("list", "vms", partial=True) == ""
    assert door("list", "hdds") == ""
    assert door("list", "dvds") == ""
    assert machine_mark.read(door) == {}
    assert list((home / "virtualbox").glob("machines/*/*")) == []


def clean_up(made: VirtualBoxDriver, door: VBoxManage, home: Path) -> None:
    """Remove all that a driver has, layers above others first, and see that nothing is left of it."""
    for name, seen in made.states().items():
        made.destroy(name, seen.tag)
    for _ in made.layers():
        for layer in made.layers():
            made.remove_layer(layer.key)
    assert made.layers() == ()
    for copy in made.box_copies():
        assert made.remove_box_copy(copy.key)
    assert_nothing_is_left(door, home)
    assert [path for path in (home / "virtualbox").rglob("*") if path.is_file() and path.parent.name != "locks"] == []


@pytest.fixture
def driver(installation: Installation, home: Path, door: VBoxManage) -> Iterator[VirtualBoxDriver]:
    made = VirtualBoxDriver(Host(home=home))
    yield made
    clean_up(made, door, home)


def set_trap(program: Path, installation: Installation, word: str, action: str) -> None:
    flag = program.with_name("sprung")
    real = installation.bin / "VBoxManage"
    program.write_text(INTERFERING.format(word=word, flag=flag, action=action, real=real))
    program.chmod(0o755)
