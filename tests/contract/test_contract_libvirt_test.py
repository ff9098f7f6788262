"""The suite on libvirt's own fake hypervisor, from a private file: what it knows goes with the process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.contract_parts import OneMachine
from vmctl.driver import Host
from vmctl.testing import DriverContract, LayerContract, SnapshotContract
from vmctl_libvirt import LibvirtDriver

NODE = """\
<node>
  <cpu>
    <mhz>3000</mhz> <model>x86_64</model> <active>4</active>
    <nodes>1</nodes> <sockets>1</sockets> <cores>4</cores> <threads>1</threads>
  </cpu>
  <memory>8388608</memory>
</node>
"""


class TestLibvirtTestDriver(OneMachine, DriverContract, SnapshotContract, LayerContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[LibvirtDriver]:
        node = tmp_path / "node.xml"
        node.write_text(NODE)
        made = LibvirtDriver(Host(home=tmp_path / "home", options={"uri": f"test://{node}"}))
        yield made
        made.close()
