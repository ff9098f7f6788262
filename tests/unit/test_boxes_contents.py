"""Boxes and foreign images on their way into a real store; the images are made by the real qemu-img."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.box_archives import tarred, written
from tests.unit.test_boxes_vagrant_box import OVF
from vmctl import process
from vmctl.boxes import Box, adding, packing, store_upkeep
from vmctl.boxes.archive import BadArchive
from vmctl.boxes.box import OWN, PUBLISHED
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.checksum import Checksum, ChecksumMismatch, Hashing
from vmctl.boxes.image import NotAnImage, inspect
from vmctl.boxes.request import Request
from vmctl.boxes.vagrant_box import BadBox
from vmctl.errors import UsageError
from vmctl.events import Event, Warned
from vmctl.layout import HomeLayout
from vmctl.spec import GIB

CONTENT = b"boot sector".ljust(510, b"\0") + b"\x55\xaa" + b"the disk's content" * 1000
VAGRANTFILE = b"""Vagrant.configure("2") do |config|
  config.ssh.username = "me"
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.vm.provider(:libvirt) do |v|
    v.memory = 768
    v.cpus = 3
  end
  config.vm.hostname = compute()
end
"""


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "home")


def disk(path: Path, kind: str, *options: str, size: int = GIB) -> Path:
    raw = path.with_suffix(".tmp")
    raw.write_bytes(CONTENT)
    with raw.open("ab") as stream:
        stream.truncate(size)
    process.run(["qemu-img", "convert", "-f", "raw", "-O", kind, *options, raw, path])
    raw.unlink()
    return path


def content(box: Box) -> bytes:
    out = box.directory.parent.parent / "raw"
    process.run(["qemu-img", "convert", "-O", "raw", box.path, out])
    with out.open("rb") as stream:
        return stream.read(len(CONTENT))


def box_members(tmp_path: Path, **changes: Any) -> dict[str, bytes]:
    qcow2 = disk(tmp_path / "box.img", "qcow2").read_bytes()
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": 1, **changes}
    return {"metadata.json": json.dumps(metadata).encode(), "Vagrantfile": VAGRANTFILE, "box.img": qcow2}


def libvirt_box(tmp_path: Path, **changes: Any) -> Path:
    return written(tmp_path / "my.box", tarred(box_members(tmp_path, **changes)))


def add(path: Path | str, home: HomeLayout, **options: Any) -> tuple[Box, list[Event]]:
    events: list[Event] = []
    box, _ = adding.add(Request(address=str(path), **options), home, report=events.append)
    return box, events


@pytest.mark.parametrize(
    ("kind", "options"),
    [("vmdk", ()), ("vmdk", ("-o", "subformat=streamOptimized")), ("vdi", ()), ("vhdx", ()), ("vpc", ())],
)
def test_foreign_images_become_qcow2(tmp_path: Path, home: HomeLayout, kind: str, options: tuple[str, ...]) -> None:
    box, _ = add(disk(tmp_path / "my.image", kind, *options), home)
    hashing = Hashing()
    hashing.update(box.path.read_bytes())
    assert (box.format, box.digest, box.size) == ("qcow2", hashing.sha256, box.path.stat().st_size)
    assert inspect(box.path, "box").virtual_size >= GIB
    assert content(box) == CONTENT


def test_a_libvirt_box(tmp_path: Path, home: HomeLayout) -> None:
    box, events = add(libvirt_box(tmp_path, architecture="arm64"), home)
    assert (box.name, box.format, box.user, box.arch, box.virtual_size) == ("my", "qcow2", "me", "aarch64", GIB)
    assert box.defaults == {"cpus": 3, "memory": "768MiB", "synced_folders": []}
    assert content(box) == CONTENT
    warned = [event.text for event in events if isinstance(event, Warned)]
    assert warned == [
        f"{tmp_path}/my.box: its Vagrantfile is not run; this in it has no effect: config.vm.hostname = compute()",
    ]
    assert box.first_key == PUBLISHED
    assert (box.first_login_key() or b"").startswith(b"-----BEGIN RSA PRIVATE KEY-----")


def test_what_the_user_says_is_above_what_the_box_says(tmp_path: Path, home: HomeLayout) -> None:
    box, _ = add(libvirt_box(tmp_path), home, user="you", firmware="uefi", arch="x86_64", name="n", version="1.2")
    assert (box.user, box.firmware, box.arch, box.name, box.version) == ("you", "uefi", "x86_64", "n", "1.2")


def test_a_virtualbox_box_and_an_ova(tmp_path: Path, home: HomeLayout) -> None:
    text = OVF.replace('<Disk ovf:diskId="d2" ovf:fileRef="f2"/>', "")
    vmdk = disk(tmp_path / "b-disk001.vmdk", "vmdk", "-o", "subformat=streamOptimized").read_bytes()
    members = {"box.ovf": text.encode(), "b-disk001.vmdk": vmdk}
    box, _ = add(written(tmp_path / "vb.box", tarred(members)), home)
    hardware = {"cpus": 2, "memory": "512MiB", "virtualbox": {"controller": "sata"}}
    assert (box.user, box.firmware, box.defaults) == ("vagrant", "uefi", hardware)
    assert content(box) == CONTENT
    members = {"appliance.ovf": text.encode(), "appliance.mf": b"", "b-disk001.vmdk": vmdk}
    ova, _ = add(written(tmp_path / "app.ova", tarred(members, mode="w")), home)
    assert (ova.name, ova.user, ova.firmware) == ("app", "vmctl", "uefi")
    assert content(ova) == CONTENT


def test_a_config_drive_is_left_out_and_told_of(tmp_path: Path, home: HomeLayout) -> None:
    text = OVF.replace('ovf:diskId="d2"', 'ovf:capacity="10" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="d2"')
    vmdk = disk(tmp_path / "b-disk001.vmdk", "vmdk", "-o", "subformat=streamOptimized").read_bytes()
    for descriptor, file, mode in (("box.ovf", "distro.box", "w:gz"), ("appliance.ovf", "app.ova", "w")):
        members = {descriptor: text.encode(), "b-disk001.vmdk": vmdk, "b-disk002.vmdk": b"no disk at all"}
        box, events = add(written(tmp_path / file, tarred(members, mode=mode)), home)
        warned = [event.text for event in events if isinstance(event, Warned)]
        assert any("its config drive b-disk002.vmdk is left out" in one for one in warned)
        assert box.provenance["config drives left out"] == ["b-disk002.vmdk"]
        assert (content(box), box.further) == (CONTENT, ())


def test_a_virtualbox_box_with_data_disks_says_what_it_is_of_use_for(tmp_path: Path, home: HomeLayout) -> None:
    vmdk = disk(tmp_path / "b-disk001.vmdk", "vmdk", "-o", "subformat=streamOptimized").read_bytes()
    members = {"box.ovf": OVF.encode(), "b-disk001.vmdk": vmdk, "b-disk002.vmdk": vmdk}
    box, events = add(written(tmp_path / "two.box", tarred(members)), home)
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert "it has 2 disks, so only the provider libvirt can use it" in warned.text
    assert len(box.images) == 2


def test_an_image_alone_in_a_zip(tmp_path: Path, home: HomeLayout) -> None:
    with zipfile.ZipFile(tmp_path / "image.zip", "w") as made:
        made.write(disk(tmp_path / "box.img", "qcow2"), "sub/disk.qcow2")
    assert content(add(tmp_path / "image.zip", home)[0]) == CONTENT


def test_the_checksum_is_the_archives(tmp_path: Path, home: HomeLayout) -> None:
    path = libvirt_box(tmp_path)
    hashing = Hashing()
    hashing.update(path.read_bytes())
    with pytest.raises(ChecksumMismatch):
        add(path, home, checksum=Checksum("sha256", "0" * 64))
    assert BoxStore(home).boxes() == []
    add(path, home, checksum=Checksum("sha256", hashing.sha256))


def vmdk_with(path: Path, change: Mapping[bytes, bytes]) -> bytes:
    data = disk(path, "vmdk").read_bytes()
    for old, new in change.items():
        assert len(old) == len(new)
        assert old in data
        data = data.replace(old, new)
    return data


def hostile_vmdk(tmp_path: Path) -> bytes:
    """One whose embedded descriptor names a file of the host."""
    data = bytearray(disk(tmp_path / "h.vmdk", "vmdk").read_bytes())
    struct.pack_into("<Q", data, 12, 0)  # capacity 0 makes readers follow the descriptor
    return bytes(data)


@pytest.mark.parametrize("case", ["text", "capacity", "parent"])
def test_a_vmdk_that_refers_to_other_files(tmp_path: Path, home: HomeLayout, case: str) -> None:
    cases = {
        "text": lambda: b'# Disk DescriptorFile\nversion=1\nRW 1 FLAT "/etc/shadow" 0\n'.ljust(1024),
        "capacity": lambda: hostile_vmdk(tmp_path),
        "parent": lambda: vmdk_with(tmp_path / "p.vmdk", {b"parentCID=ffffffff": b"parentCID=12345678"}),
    }
    with pytest.raises(NotAnImage, match=r"in other files|refers to a parent"):
        add(written(tmp_path / "evil.vmdk", cases[case]()), home)
    assert BoxStore(home).boxes() == []
    assert list(home.boxes.iterdir()) == []


def overlay(tmp_path: Path) -> bytes:
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", tmp_path / "o.img", "1G"])
    return (tmp_path / "o.img").read_bytes()


def test_an_overlay_in_a_box_can_not_show_the_hosts_files(tmp_path: Path, home: HomeLayout) -> None:
    metadata = json.dumps({"provider": "libvirt", "disks": [{"path": "d.img"}]}).encode()
    path = written(tmp_path / "evil.box", tarred({"metadata.json": metadata, "d.img": overlay(tmp_path)}))
    with pytest.raises(NotAnImage, match="backing file"):
        add(path, home)
    assert list(home.boxes.iterdir()) == []


@pytest.mark.parametrize("stated", [40, 2, 1.07, 0.5, "1", "1GB", 0, None, 1e300, 10**400, [1]])
def test_the_images_own_size_counts(tmp_path: Path, home: HomeLayout, stated: Any) -> None:
    assert add(libvirt_box(tmp_path, virtual_size=stated), home)[0].virtual_size == GIB


def test_a_box_without_a_virtual_size(tmp_path: Path, home: HomeLayout) -> None:
    members = box_members(tmp_path) | {"metadata.json": b'{"provider": "libvirt", "format": "qcow2"}'}
    assert add(written(tmp_path / "my.box", tarred(members)), home)[0].virtual_size == GIB


APPLE = b"\0\5\26\7\0\2\0\0Mac OS X        "


def test_what_macos_and_windows_add_to_archives_is_left_out(tmp_path: Path, home: HomeLayout) -> None:
    members = box_members(tmp_path)
    junk = {f"._{name}": APPLE for name in members} | {".DS_Store": b"x", "Thumbs.db": b"x", "desktop.ini": b"x"}
    junk |= {"__MACOSX/._box.img": APPLE, "PaxHeaders.0/box.img": b"x"}
    packed = tarred({f"./{name}": data for name, data in (junk | members).items()})
    box, _ = add(written(tmp_path / "my.box", packed), home)
    assert (box.user, box.virtual_size) == (add(libvirt_box(tmp_path), home)[0].user, GIB)


@pytest.mark.parametrize("top", ["disk", "My Disk"])
def test_an_image_zipped_on_macos(tmp_path: Path, home: HomeLayout, top: str) -> None:
    image = disk(tmp_path / "disk.qcow2", "qcow2").read_bytes()
    with zipfile.ZipFile(tmp_path / "disk.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{top}/", b"")
        archive.writestr(f"{top}/disk.qcow2", image)
        archive.writestr(f"__MACOSX/{top}/._disk.qcow2", APPLE)
        archive.writestr(f"{top}/.DS_Store", b"x")
    assert add(tmp_path / "disk.zip", home)[0].virtual_size == GIB


def test_a_box_whose_directory_was_packed(tmp_path: Path, home: HomeLayout) -> None:
    members = {f"mybox/{name}": data for name, data in box_members(tmp_path).items()} | {"._mybox": APPLE}
    box, _ = add(written(tmp_path / "my.box", tarred(members)), home)
    assert box.user == add(libvirt_box(tmp_path), home)[0].user


def test_an_archive_of_junk_alone_holds_nothing(tmp_path: Path, home: HomeLayout) -> None:
    with pytest.raises(BadArchive, match=r"(?s)unpacked.*holds no files"):
        add(written(tmp_path / "my.box", tarred({"__MACOSX/._a": APPLE})), home)


def test_truncated_and_damaged(tmp_path: Path, home: HomeLayout) -> None:
    data = libvirt_box(tmp_path).read_bytes()
    with pytest.raises(BadArchive, match=r"cut\.box cannot be unpacked"):
        add(written(tmp_path / "cut.box", data[: len(data) // 2]), home)
    assert list(home.boxes.iterdir()) == []


@pytest.mark.parametrize("kind", ["vdi", "vmdk", "vhdx"])
@pytest.mark.parametrize("keep", [0.2, 0.98])
def test_truncated_foreign_images(tmp_path: Path, home: HomeLayout, kind: str, keep: float) -> None:
    data = disk(tmp_path / "x", kind).read_bytes()
    with pytest.raises(NotAnImage):
        add(written(tmp_path / "cut", data[: int(len(data) * keep)]), home)
    assert list(home.boxes.iterdir()) == []


def test_a_box_with_a_key_of_its_own(tmp_path: Path, home: HomeLayout) -> None:
    key = b"-----BEGIN OPENSSH PRIVATE KEY-----\n..."
    vagrantfile = b"""Vagrant.configure("2") do |config|
      config.ssh.private_key_path = File.expand_path("../vagrant_private_key", __FILE__)
    end"""
    members = {**box_members(tmp_path), "Vagrantfile": vagrantfile, "vagrant_private_key": key}
    box, events = add(written(tmp_path / "own.box", tarred(members)), home)
    assert (box.first_key, box.first_login_key()) == (OWN, key)
    assert [event for event in events if isinstance(event, Warned)] == []


def with_vagrantfile(tmp_path: Path, *lines: str) -> Path:
    text = "\n".join(['Vagrant.configure("2") do |config|', *lines, "end"])
    return written(tmp_path / "w.box", tarred({**box_members(tmp_path), "Vagrantfile": text.encode()}))


def test_a_box_with_a_password_and_a_port_of_its_own(tmp_path: Path, home: HomeLayout) -> None:
    path = with_vagrantfile(tmp_path, r"config.ssh.password = 'it\'s \\ é'", "config.ssh.guest_port = 2022")
    box, events = add(path, home)
    assert [event for event in events if isinstance(event, Warned)] == []
    assert (box.first_login_password(), box.defaults["ssh_port"], box.first_key) == (r"it's \ é", 2022, PUBLISHED)
    assert "it's" not in f"{box}{box.to_json()}"
    mine, _ = add(path, home, password="mine")  # noqa: S106  of no account
    assert (mine.first_login_password(), mine.version == box.version) == ("mine", False)
    assert add(path, home)[1][-1].changed is False  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="another user, password, firmware"):
        add(path, home, password="other", version=box.version)  # noqa: S106  of no account

    packing.repackage(box, tmp_path / "again.box")
    again, _ = add(tmp_path / "again.box", home)
    assert (again.first_login_password(), again.defaults["ssh_port"]) == (r"it's \ é", 2022)


def test_a_password_that_is_no_plain_literal_is_not_shown(tmp_path: Path, home: HomeLayout) -> None:
    _, events = add(with_vagrantfile(tmp_path, 'config.ssh.password = "sec#{1}ret"'), home)
    (warned,) = (event.text for event in events if isinstance(event, Warned))
    assert warned.endswith("has no effect: config.ssh.password …")


def test_a_port_that_is_none(tmp_path: Path, home: HomeLayout) -> None:
    with pytest.raises(BadBox, match="can use") as caught:
        add(with_vagrantfile(tmp_path, "config.ssh.guest_port = 70000"), home)
    assert "config.ssh.guest_port = 70000, which is not a valid port" in caught.value.details


def test_a_key_that_is_none(tmp_path: Path, home: HomeLayout) -> None:
    members = {**box_members(tmp_path), "vagrant_private_key": b"ssh-rsa AAAA"}
    with pytest.raises(BadBox, match="vagrant_private_key in it is not a private SSH key"):
        add(written(tmp_path / "own.box", tarred(members)), home)
    assert list(home.boxes.iterdir()) == []


def two_disks(tmp_path: Path, second: bytes) -> Path:
    metadata = json.dumps({"provider": "libvirt", "disks": [{"path": "a.img"}, {"path": "b.img", "name": "data"}]})
    first = disk(tmp_path / "a.img", "qcow2").read_bytes()
    members = {"metadata.json": metadata.encode(), "a.img": first, "b.img": second}
    return written(tmp_path / "two.box", tarred(members))


def test_several_disks(tmp_path: Path, home: HomeLayout) -> None:
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "empty", "3G"])
    second = (tmp_path / "empty").read_bytes()
    box, _ = add(two_disks(tmp_path, second), home)
    assert content(box) == CONTENT
    (further,) = box.further
    assert (further.digest, further.virtual_size) == (hashlib.sha256(second).hexdigest(), 3 * GIB)
    root = box.disk()
    assert [one.path.read_bytes() for one in root.further] == [second]
    assert root.further[0].path.stat().st_mode & 0o777 == 0o444
    assert BoxStore(home).find("two") == box
    assert store_upkeep.damage(box) == ""
    root.further[0].path.chmod(0o644)
    root.further[0].path.write_bytes(b"changed")
    assert store_upkeep.damage(box).startswith("its content changed: 7 bytes")


def test_a_further_disk_is_looked_at_too(tmp_path: Path, home: HomeLayout) -> None:
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/hostname", tmp_path / "o", "1G"])
    with pytest.raises(NotAnImage, match="overlay: it refers to a backing file"):
        add(two_disks(tmp_path, (tmp_path / "o").read_bytes()), home)
    assert list(home.boxes.iterdir()) == []


def test_the_same_image_with_another_user_is_another_box(tmp_path: Path, home: HomeLayout) -> None:
    image = disk(tmp_path / "a.qcow2", "qcow2")
    first, _ = add(image, home)
    second, _ = add(image, home, user="me")
    third, _ = add(image, home, cloud_init=False)
    assert (first.user, first.first_key, second.user) == ("vmctl", "", "me")
    assert (third.user, third.first_key, third.cloud_init) == ("vagrant", PUBLISHED, False)
    assert len({box.version for box in (first, second, third)}) == 3
    assert add(image, home, user="me")[0].version == second.version
    with pytest.raises(UsageError, match="another user, password, firmware or cloud-init setting"):
        add(image, home, user="me", version=first.version)


def test_an_archive_of_something_else(tmp_path: Path, home: HomeLayout) -> None:
    with pytest.raises(BadBox, match="neither a Vagrant box nor an OVA: it holds a, b"):
        add(written(tmp_path / "x.tar", tarred({"a": b"1", "b": b"2"})), home)
