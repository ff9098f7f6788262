"""A machine and an image for the contract suite; no driver looks inside the image before it boots it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vmctl.driver import Definition, Disk, Forward, Tag
from vmctl.process import find, run
from vmctl.spec import MIB, BoxRef, MachineSpec

VIRTUAL_SIZE = 64 * MIB


def make_definition(directory: Path, *, port: int = 2222) -> Definition:
    return Definition(
        name="contract-web-0a1b2c3d",
        tag=Tag(project="0a1b2c3d" * 4, machine="web", version="0.1.0", root=str(directory)),
        spec=MachineSpec(name="web", box=BoxRef(address="empty"), cpus=1, memory=128 * MIB),
        mac="52:54:00:0a:1b:2c",
        console=directory / "console.log",
        forwards=(Forward(name="ssh", guest=22, host=port, host_ip="127.0.0.1", protocol="tcp"),),
        network_prefix="contract-0a1b2c3d-",
    )


def make_disk(directory: Path) -> Disk:
    path = directory / "empty.qcow2"
    run([find("qemu-img", package="qemu-utils"), "create", "-q", "-f", "qcow2", path, str(VIRTUAL_SIZE)])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Disk(path=path, format="qcow2", digest=digest, virtual_size=VIRTUAL_SIZE)


class OneMachine:
    """The fixtures of a suite for drivers that take any definition and image."""

    @pytest.fixture
    def definition(self, tmp_path: Path) -> Definition:
        return make_definition(tmp_path)

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Disk:
        return make_disk(tmp_path)
