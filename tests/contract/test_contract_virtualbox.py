"""The suite on the real VBoxManage, with QEMU standing in for VirtualBox's kernel module."""

# ruff: noqa: PLR0917  pytest passes fixtures by name

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.contract_parts import VIRTUAL_SIZE, make_definition
from tests.host.virtualbox.install import Installation, installed
from vmctl.driver import Definition, Disk, Host, State
from vmctl.testing import DriverContract, LayerContract, SnapshotContract
from vmctl_virtualbox import VirtualBoxDriver

SECTORS_PER_MIB = 2048
REPOSITORY = Path(__file__).parents[2]
FREEZE = """
import pickle, sys
sys.path[:0] = [".", "providers"]
from pathlib import Path
from vmctl.driver import Host
from vmctl_virtualbox import VirtualBoxDriver
home, *machine = pickle.loads(Path(sys.argv[1]).read_bytes())
VirtualBoxDriver(Host(home=home)).freeze(*machine)
"""

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with installed(front=True) as made:
        yield made


class TestVirtualBoxDriver(DriverContract, LayerContract, SnapshotContract):
    @pytest.fixture
    def driver(self, installation: Installation, definition: Definition) -> Iterator[VirtualBoxDriver]:
        made = VirtualBoxDriver(Host(home=installation.root / "home"))
        yield made
        made.destroy(definition.name, definition.tag)

    @pytest.fixture
    def definition(self, tmp_path: Path) -> Definition:
        return make_definition(tmp_path, port=free_port())

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Disk:
        return partitioned_disk(tmp_path)

    def test_after_a_freeze_that_was_killed_the_machine_goes_on(
        self,
        driver: VirtualBoxDriver,
        definition: Definition,
        disk: Disk,
        installation: Installation,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        name, tag, key = definition.name, definition.tag, "a" * 64
        driver.create(definition, disk)
        driver.start(name, tag)
        with monkeypatch.context() as patch:
            patch.setenv("PATH", f"{killer(tmp_path, installation)}:{os.environ['PATH']}")
            stated = tmp_path / "said.pickle"
            stated.write_bytes(pickle.dumps((installation.root / "home", name, tag, key)))
            dead = subprocess.run([sys.executable, "-c", FREEZE, stated], check=False, cwd=REPOSITORY)
        assert dead.returncode == -signal.SIGKILL
        assert driver.states()[name].state is State.PAUSED
        assert driver.layers() == ()
        driver.start(name, tag)
        before = driver.states()[name]
        assert before.state is State.RUNNING
        assert driver.freeze(name, tag, key)
        assert driver.states()[name] == before
        assert driver.remove_layer(key)


def killer(directory: Path, installation: Installation) -> Path:
    """A directory for PATH with a VBoxManage that kills whoever had a machine pause."""
    program = directory / "bin" / "VBoxManage"
    program.parent.mkdir()
    real = installation.bin / "VBoxManage"
    program.write_text(f'#!/bin/sh\n{real} "$@"\nstatus=$?\n[ "$3" = pause ] && kill -9 $PPID\nexit $status\n')
    program.chmod(0o755)
    return program.parent


def partitioned_disk(directory: Path) -> Disk:
    """An image with an empty partition: vboximg-mount, with which the front runs machines, wants a table on it."""
    entry = struct.pack("<B3xB3xII", 0, 0x83, SECTORS_PER_MIB, VIRTUAL_SIZE // 512 - SECTORS_PER_MIB)
    path = directory / "partitioned.raw"
    path.write_bytes(bytes(446) + entry + bytes(48) + b"\x55\xaa")
    os.truncate(path, VIRTUAL_SIZE)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Disk(path=path, format="raw", digest=digest, virtual_size=VIRTUAL_SIZE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
