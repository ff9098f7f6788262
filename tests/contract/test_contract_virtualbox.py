"""The suite on the real VBoxManage, with QEMU standing in for VirtualBox's kernel module."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.contract_parts import VIRTUAL_SIZE, make_definition
from tests.host.virtualbox.install import Installation, installed
from vmctl.driver import Definition, Disk, Host
from vmctl.testing import DriverContract, SnapshotContract
from vmctl_virtualbox import VirtualBoxDriver

SECTORS_PER_MIB = 2048

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with installed(front=True) as made:
        yield made


class TestVirtualBoxDriver(DriverContract, SnapshotContract):
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
