from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmctl.boxes import ovf, vagrant_box
from vmctl.boxes.vagrant_box import BadBox
from vmctl.spec import GIB, MIB

OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References><File ovf:href="b-disk001.vmdk" ovf:id="f1"/><File ovf:href="b-disk002.vmdk" ovf:id="f2"/></References>
  <DiskSection>
    <Disk ovf:diskId="d2" ovf:fileRef="f2"/><Disk ovf:diskId="d1" ovf:fileRef="f1"/>
  </DiskSection>
  <VirtualSystem ovf:id="x"><VirtualHardwareSection>
    <Item><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
    <Item><rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits>
      <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
    <Item><rasd:HostResource>/disk/d1</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>
    <Item><rasd:HostResource>ovf:/disk/d2</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>
  </VirtualHardwareSection><vbox:Machine><vbox:Hardware><vbox:Firmware type="EFI"/></vbox:Hardware></vbox:Machine>
  </VirtualSystem>
</Envelope>"""
SIZED = """<Envelope xmlns:ovf="o"><References>
  <File ovf:href="one" ovf:id="f1"/><File ovf:href="two" ovf:id="f2"/></References><DiskSection>
  <Disk ovf:diskId="d1" ovf:fileRef="f1" {}/><Disk ovf:diskId="d2" ovf:fileRef="f2" {}/></DiskSection></Envelope>"""
LIBVIRT = {"provider": "libvirt", "format": "qcow2", "virtual_size": 10}


def box(root: Path, metadata: Any, **more: str) -> Path:
    if metadata is not None:
        (root / "metadata.json").write_text(metadata if isinstance(metadata, str) else json.dumps(metadata))
    (root / "box.img").write_bytes(b"QFI\xfb")
    for name, text in more.items():
        (root / name).write_text(text)
    return root


def test_libvirt_v1(tmp_path: Path) -> None:
    text = (
        'Vagrant.configure("2") do |c|\nc.ssh.username = "me"\nc.vm.provider :libvirt do |v|\nv.memory = 768\nend\nend'
    )
    root = box(tmp_path, LIBVIRT, Vagrantfile=text, **{"info.json": '{"Author": "me"}', "vagrant_private_key": "k"})
    read = vagrant_box.read(root, name="b.box")
    assert read == vagrant_box.VagrantBox(
        provider="libvirt",
        disks=(root / "box.img",),
        user="me",
        memory=768 * MIB,
        key=root / "vagrant_private_key",
        info={"Author": "me"},
    )


def test_libvirt_v2_has_several_disks(tmp_path: Path) -> None:
    disks = [{"path": "box.img"}, {"path": "data.img", "name": "data"}]
    root = box(tmp_path, {"provider": "libvirt", "disks": disks, "architecture": "arm64"}, **{"data.img": "x"})
    read = vagrant_box.read(root, name="b.box")
    assert read.disks == (root / "box.img", root / "data.img")
    assert (read.arch, read.user) == ("aarch64", "vagrant")


@pytest.mark.parametrize("metadata", [{"provider": "virtualbox"}, None])
def test_virtualbox_with_and_without_metadata(tmp_path: Path, metadata: Any) -> None:
    text = 'Vagrant.configure("2") do |config|\n  config.vm.base_mac = "0800273AB112"\nend'
    more = {"box.ovf": OVF, "b-disk001.vmdk": "1", "b-disk002.vmdk": "2", "Vagrantfile": text}
    read = vagrant_box.read(box(tmp_path, metadata, **more), name="b.box")
    assert [disk.name for disk in read.disks] == ["b-disk001.vmdk", "b-disk002.vmdk"]
    assert (read.provider, read.mac, read.firmware) == ("virtualbox", "08:00:27:3a:b1:12", "uefi")
    assert (read.cpus, read.memory) == (2, 512 * MIB)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (None, "it has no metadata.json"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ({}, "it is for the provider None"),
        ({"provider": "vmware_desktop"}, "it is for the provider 'vmware_desktop'; vmctl runs boxes for libvirt and"),
        ({"provider": ["libvirt"]}, "it is for the provider ['libvirt']"),
        ({**LIBVIRT, "format": "raw"}, "format must be 'qcow2', not 'raw'"),
        ({**LIBVIRT, "architecture": 64}, "architecture must be text, not 64"),
        ({**LIBVIRT, "architecture": "../../x"}, "invalid architecture '../../x'"),
        ({"provider": "libvirt", "disks": []}, "disks must be a list"),
        ({"provider": "libvirt", "disks": [{"name": "x"}]}, "every disk needs a path"),
        ({"provider": "libvirt", "disks": [{"path": "box.img"}, {"path": "box.img"}]}, "the same path or name"),
        ({"provider": "libvirt", "disks": [{"path": "/etc/shadow"}]}, "'/etc/shadow', which is not in it"),
        ({"provider": "libvirt", "disks": [{"path": "../box.img"}]}, "which is not in it"),
        ({"provider": "libvirt", "disks": [{"path": "gone.img"}]}, "which is not in it"),
        ({"provider": "virtualbox"}, "holds no box.ovf"),
    ],
)
def test_bad_metadata(tmp_path: Path, metadata: Any, words: str) -> None:
    with pytest.raises(BadBox) as caught:
        vagrant_box.read(box(tmp_path, metadata), name="b.box")
    assert words in caught.value.details
    assert caught.value.brief == "b.box is not a box that vmctl can use"
    assert "vmctl box add" in caught.value.hint


@pytest.mark.parametrize("user", ["-oProxyCommand=x", "two words", 'a"b', "é", "x" * 40])
def test_bad_users(tmp_path: Path, user: str) -> None:
    text = f"Vagrant.configure('2') do |config|\n  config.ssh.username = '{user}'\nend"
    with pytest.raises(BadBox) as caught:
        vagrant_box.read(box(tmp_path, LIBVIRT, Vagrantfile=text), name="b.box")
    assert "which is not a valid user name" in caught.value.details


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "is not an OVF descriptor"),
        ("<Envelope/>", "names no disks"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "it declares a document type"),
        (OVF.replace('"b-disk001.vmdk"', '"/etc/shadow"'), "'/etc/shadow', which is not in it"),
    ],
)
def test_bad_descriptors(tmp_path: Path, text: str, words: str) -> None:
    root = box(tmp_path, None, **{"box.ovf": text})
    with pytest.raises(BadBox) as caught:
        vagrant_box.read(root, name="b.box")
    assert words in caught.value.details


@pytest.mark.parametrize(("unit", "expected"), [("byte * 2^20", 4 * MIB), ("GigaBytes", 4 * GIB), ("acres", None)])
def test_units_of_memory(tmp_path: Path, unit: str, expected: int | None) -> None:
    path = tmp_path / "a.ovf"
    path.write_text(OVF.replace("MegaBytes", unit).replace("512", "4"))
    assert ovf.read(path).memory == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab./0", max_size=5) | st.just("box.img"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["path", "name", "x"]), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(["provider", "format", "virtual_size", "disks", "architecture"])


@settings(deadline=None)
@given(metadata=st.dictionaries(KEYS, JSON), libvirt=st.booleans())
def test_any_metadata_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, *, metadata: dict[str, Any], libvirt: bool
) -> None:
    root = tmp_path_factory.mktemp("box")
    if libvirt:
        metadata = {**metadata, "provider": "libvirt"}
    try:
        read = vagrant_box.read(box(root, metadata), name="b.box")
    except BadBox:
        return
    assert all(disk.is_file() and disk.is_relative_to(root) for disk in read.disks)


@pytest.mark.parametrize(
    ("subtype", "controller"), [("VirtioSCSI", "virtio"), ("AHCI", "sata"), ("PIIX4", "sata"), ("lsilogic", "sata")]
)
def test_what_the_boot_disk_hangs_on(tmp_path: Path, subtype: str, controller: str) -> None:
    path = tmp_path / "box.ovf"
    item = (
        f"<Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>{subtype}</rasd:ResourceSubType>"
        "<rasd:ResourceType>20</rasd:ResourceType></Item><Item><rasd:InstanceID>5</rasd:InstanceID>"
        "<rasd:ResourceSubType>VirtioNet</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>"
        "<Item><rasd:HostResource>/disk/d1</rasd:HostResource><rasd:Parent>3</rasd:Parent>"
    )
    path.write_text(OVF.replace("<Item><rasd:HostResource>/disk/d1</rasd:HostResource>", item))
    assert ovf.read(path).controller == controller


MIB_UNIT = 'ovf:capacityAllocationUnits="byte * 2^20"'


@pytest.mark.parametrize(
    ("first", "second", "disks", "drives"),
    [
        (f'ovf:capacity="{10 * GIB}"', f'ovf:capacity="{10 * MIB}"', ("one",), ("two",)),
        (f'ovf:capacity="10" {MIB_UNIT}', f'ovf:capacity="10240" {MIB_UNIT}', ("two",), ("one",)),
        (f'ovf:capacity="{10 * GIB}"', f'ovf:capacity="{33 * MIB}"', ("one", "two"), ()),
        (f'ovf:capacity="{MIB}"', f'ovf:capacity="{MIB}"', ("one", "two"), ()),
        (f'ovf:capacity="{GIB}"', "", ("one", "two"), ()),
        (f'ovf:capacity="{GIB}"', 'ovf:capacity="${size}"', ("one", "two"), ()),
    ],
)
def test_config_drives_are_the_tiny_disks_among_others(
    tmp_path: Path, first: str, second: str, disks: tuple[str, ...], drives: tuple[str, ...]
) -> None:
    path = tmp_path / "box.ovf"
    path.write_text(SIZED.replace("{}", first, 1).replace("{}", second, 1))
    read = ovf.read(path)
    assert (read.disks, read.config_drives) == (disks, drives)
