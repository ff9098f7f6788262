from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs, to_builtins

from tests.unit.virtualbox_definition import TAG, definition, nic
from tests.unit.virtualbox_transcripts import BRIDGED, HOSTONLY, SETTINGS
from vmctl.errors import VmctlError
from vmctl.knobs import refusal
from vmctl.powers import Snapshot
from vmctl_virtualbox import hardware, knobs, machine_mark, networks, snapshots
from vmctl_virtualbox.answers import Rule
from vmctl_virtualbox.knobs import VirtualBoxKnobs
from vmctl_virtualbox.snapshots import HIDDEN, KeptSnapshot, deletable, shown

OLD_USAGE = "[--nictype<1-N> Am79C970A|Am79C973] [--natpf<1-N> ...]"
NEW_USAGE = "[--nic-typeN= Am79C970A | Am79C973]"


# -- knobs


def test_knobs_are_read_with_their_defaults() -> None:
    spec = definition(
        virtualbox={
            "gui": True,
            "vram": None,
            "customize": [
                ["modifyvm", ":id", "--accelerate-3d", False],
                ["post-boot", "guestproperty", "set", ":id", "a", 1],
            ],
        }
    ).spec
    assert not list(knobs.faults(spec))
    read = knobs.read(spec)
    assert read.gui
    assert read.vram == 16
    assert read.commands("pre-boot") == (("modifyvm", ":id", "--accelerate-3d", "off"),)
    assert read.commands("post-boot") == (("guestproperty", "set", ":id", "a", "1"),)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vrma", 12, "did you mean 'vram'"),
        ("zzz", 1, "known: gui"),
        ("gui", "yes", "expected true or false, got 'yes', did you mean true?"),
        ("vram", True, "whole number"),
        ("vram", 0, "0 is not between 1 and 256"),
        ("vram", "12", "whole number"),
        ("nic_type", "e1000", "one of virtio"),
        ("paravirt", "xen", "one of default"),
        ("controller", "ide", "one of auto"),
        ("networks", ["backend"], "must map"),
        ("networks", {"backend": "bridged:"}, "bridged:INTERFACE"),
        ("networks", {"bakend": "internal"}, "did you mean 'backend'"),
        ("customize", "modifyvm", "list of commands"),
        ("customize", [["modifyvn", ":id"]], "did you mean 'modifyvm'"),
        ("customize", [["unregistervm", ":id", "--delete"]], "cannot be used here"),
        ("customize", [[]], "list of words"),
        ("customize", [["pre-boot"]], "names no"),
        ("customize", ["modifyvm :id"], "list of words"),
    ],
)
def test_faulty_knobs(name: str, value: Any, message: str) -> None:
    spec = definition(virtualbox={name: value}, nics=(nic(),)).spec
    found = list(knobs.faults(spec))
    assert len(found) == 1
    assert found[0].path == f"virtualbox.{name}"
    assert message in found[0].message


def test_all_faults_are_told_at_once_with_their_places() -> None:
    made = definition(virtualbox={"vram": 0, "gui": 1})
    error = refusal(made.spec, list(knobs.faults(made.spec)))
    assert error.brief == "2 faults in machine 'web'"
    assert "Vmfile:4:5: machines.web.virtualbox.vram: 0 is not between 1 and 256" in error.details
    assert "machines.web.virtualbox.gui: expected true or false, got the number 1" in error.details


# -- hardware


def test_settings_of_a_machine() -> None:
    options = hardware.settings(definition(memory=1_000_000_000, cpus=3), VirtualBoxKnobs(gui=True, nested=True), [])
    pairs = dict(itertools.pairwise(options))
    assert pairs["--memory"] == "956"  # rounded up to 4 MiB
    assert pairs["--cpus"] == "3"
    assert pairs["--default-frontend"] == "gui"
    assert pairs["--nested-hw-virt"] == "on"
    assert pairs["--mac-address1"] == "5254000A1B2C"
    assert pairs["--audio-driver"] == "none"
    assert options[options.index("--uart-mode1") + 1 :][:2] == [
        "file",
        "/home/u/shop/.vmctl/machines/web/console.log",
    ]


def test_rules_change_only_where_they_differ() -> None:
    present = [Rule("ssh", "tcp", "127.0.0.1", 2222, 22), Rule("old", "tcp", "", 80, 80)]
    options = hardware.settings(definition(), VirtualBoxKnobs(), present)
    rules = [options[index + 1 : index + 3] for index, word in enumerate(options) if word == "--nat-pf1"]
    assert rules[0] == ["delete", "old"]
    assert [rule[0] for rule in rules[1:]] == ["a_b,udp,127.0.0.1,5353,,53"]


def test_older_versions_get_their_older_spelling() -> None:
    options = [
        "--nic-type1",
        "virtio",
        "--nat-pf1",
        "delete",
        "--x",
        "--uart-mode1",
        "file",
        "--boot1",
        "--rtc-use-utc",
        "--memory",
    ]
    assert hardware.spelled(options, OLD_USAGE) == [
        "--nictype1", "virtio", "--natpf1", "delete", "--x", "--uartmode1", "file", "--boot1", "--rtcuseutc",
        "--memory",
    ]  # fmt: skip
    assert hardware.spelled(options, NEW_USAGE) == options


def test_further_nics_and_controllers() -> None:
    options = hardware.further_nic(
        2, ["--nic", "intnet", "--intnet", "--odd-name"], "52:54:00:0a:1b:2d", VirtualBoxKnobs()
    )
    assert options[:2] == ["--nic2", "intnet"]
    assert "--mac-address2" in options
    assert hardware.no_nics(7) == ["--nic7", "none", "--nic8", "none"]
    assert "VirtIO" in hardware.controller("auto", "qcow2")
    assert "IntelAhci" in hardware.controller("auto", "vmdk")
    assert "VirtIO" in hardware.controller("virtio", "vmdk")


# -- networks


def faults(made_nic: Any, *, conf: str | None = None, can: bool = True, **chosen: Any) -> list[str]:
    own = list(networks.host_interfaces(HOSTONLY))
    found = networks.faults(
        definition(nics=(made_nic,)),
        VirtualBoxKnobs(**chosen),
        can=can,
        conf=conf,
        others=[*own, *networks.host_interfaces(BRIDGED)],
        own={interface.name for interface in own},
    )
    return [fault.message for fault in found]


def test_a_network_that_fits_is_reused() -> None:
    assert faults(nic()) == []
    assert faults(nic("192.168.60.10")) == []


def test_addresses_outside_of_what_virtualbox_allows() -> None:
    assert "outside" in faults(nic("192.168.100.10"))[0]
    assert faults(nic("192.168.100.10"), conf="# mine\n* 192.168.100.0/24 fe80::/10\n") == []
    assert "outside" in faults(nic(), conf="* 192.168.100.0/24\n")[0]


def test_overlaps() -> None:
    assert "virbr7 (192.168.57.0/24)" in faults(nic("192.168.57.9"))[0]
    assert "vboxnet0" in faults(nic("192.168.56.10", prefix=25))[0]
    assert "host's own address" in faults(nic("192.168.56.1"))[0]


def test_internal_and_bridged_networks_are_not_bound_to_the_range() -> None:
    assert faults(nic("10.1.1.1"), networks={"backend": "internal"}) == []
    assert faults(nic("10.1.1.1"), can=False) == []
    assert "vboxnetctl" in faults(nic(), can=False, networks={"backend": "hostonly"})[0]


def test_the_host_stays_off_an_isolated_network() -> None:
    alone = structs.replace(nic("10.1.1.1"), isolated=True)
    assert networks.kind(alone, VirtualBoxKnobs(), can_hostonly=True) == "internal"
    assert faults(alone) == []
    assert faults(alone, networks={"backend": "internal"}) == []
    for how in ("hostonly", "bridged:eth0"):
        assert f"makes it {how}" in faults(alone, networks={"backend": how})[0]


# -- identity


def test_a_mark_comes_back() -> None:
    mark = machine_mark.MachineMark(name="shop-web", tag=TAG, complete=True, pre_boot=(("modifyvm", ":id"),))
    uuid = machine_mark.identifier("shop-web")
    assert machine_mark.parse({f"vmctl/{uuid}": json.dumps(to_builtins(mark))}) == {uuid: mark}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": "shop-web", "tag": {}}'])
def test_damaged_marks_are_none(text: str) -> None:
    assert machine_mark.parse({f"vmctl/{machine_mark.identifier('shop-web')}": text, "GUI/x": "y"}) == {}


def test_a_mark_under_another_machine_is_none() -> None:
    text = (
        '{"name": "shop-web", "tag": {"project": "", "machine": "", "version": "", "root": ""}, "complete": true,'
        ' "seed": "", "pre_boot": [], "post_boot": []}'
    )
    assert machine_mark.parse({"vmctl/00000000-0000-0000-0000-000000000000": text}) == {}


# -- snapshots


def test_snapshots_of_a_settings_file(tmp_path: Path) -> None:
    (tmp_path / "Snapshots").mkdir()
    (tmp_path / "Snapshots/1.sav").write_bytes(b"x" * 5000)
    (tmp_path / "root.vdi").write_bytes(b"x" * 5000)
    settings = tmp_path / "web.vbox"
    settings.write_text(SETTINGS)
    first, second, third = (kept.snapshot for kept in snapshots.read_kept(settings))
    assert (first.name, first.parent, first.memory, first.current) == ('snap "ü', "", True, False)
    assert first.size
    assert first.size >= 10_000
    assert first.date == 1795492380.0
    assert (second.name, second.parent, second.memory, second.current) == ("s2", 'snap "ü', False, False)
    assert third.current


def kept(name: str, parent: str = "", *, current: bool = False) -> KeptSnapshot:
    return KeptSnapshot(f"uuid of {name}", Snapshot(name=name, parent=parent, date=0, current=current))


def test_a_forgotten_snapshot_is_not_shown_and_goes_as_soon_as_it_can() -> None:
    gone = f"{HIDDEN}x"
    tree = (kept("a"), kept(gone, "a", current=True), kept("b", gone), kept("c", gone))
    assert [(each.snapshot.name, each.snapshot.parent, each.snapshot.current) for each in shown(tree)] == [
        ("a", "", True),
        ("b", "a", False),
        ("c", "a", False),
    ]
    assert deletable(tree) is None
    assert deletable((kept(gone, current=True), kept("b", gone))) is None
    alone = (kept("a"), kept(gone, "a"), kept("b", gone, current=True))
    assert deletable(alone) == alone[1]
    assert deletable((kept("a"), kept("b", "a"))) is None


def test_settings_without_snapshots_or_in_pieces(tmp_path: Path) -> None:
    settings = tmp_path / "web.vbox"
    settings.write_text('<VirtualBox xmlns="http://www.virtualbox.org/"><Machine uuid="{x}"/></VirtualBox>')
    assert snapshots.read_kept(settings) == ()
    settings.write_text("<VirtualBox")
    with pytest.raises(VmctlError, match="settings"):
        snapshots.read_kept(settings)
