"""`vmctl package` on fake machines, and guests that take no seed, with real SSH servers."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import structs

from tests.cli.harness import Project, make_box
from tests.unit.box_images import qcow2
from vmctl import key_pairs
from vmctl.boxes import box
from vmctl.boxes.vagrant_box import LIBVIRT_DISK
from vmctl.driver import Host, State
from vmctl.errors import VmctlError
from vmctl.ssh import waiting
from vmctl.testing import FakeDriver

SIZE = 64 * 1024**2


@pytest.fixture
def shop(project: Project) -> Project:
    """A project whose machine `web` has a real image, and is off."""
    for image in project.home.glob("boxes/tiny/*/*/*.qcow2"):
        image.write_bytes(qcow2(size=SIZE))
    project.vmfile("machines: {web: {}, db: {}}\n")
    project.vmctl("up", "web")
    project.vmctl("halt", "web")
    return project


def fake(project: Project) -> FakeDriver:
    return FakeDriver(Host(home=project.home), directory=project.home / "fake")


def test_a_machine_becomes_a_box_and_stays_as_it_is(shop: Project, tmp_path: Path) -> None:
    before = fake(shop).states()
    (shop.root / "notes.txt").write_text("hello")
    (shop.root / "info.json").write_text('{"author": "me"}')
    ran = shop.vmctl("package", "web", "--include", str(shop.root / "notes.txt"), "--info",
                     str(shop.root / "info.json"), "--json")  # fmt: skip
    written = shop.root / "shop-web.box"
    assert ran.answer == {"event": "result", "changed": True, "machine": "web", "path": str(written)}
    assert fake(shop).states() == before
    assert not list(shop.layout.machines.glob("*.package"))
    assert not [path for path in shop.root.iterdir() if path.name.startswith(".shop-web.box")]

    with tarfile.open(written) as archive:
        members = archive.getnames()
        metadata = json.loads(archive.extractfile("metadata.json").read())  # type: ignore[union-attr]
    assert set(members) == {"metadata.json", "Vagrantfile", "info.json", "include/notes.txt", LIBVIRT_DISK}
    base = "0" * 64  # of the box of the tests
    assert metadata == {
        "provider": "libvirt", "architecture": "amd64", "format": "qcow2", "virtual_size": 1, "vmctl": {"base": base},
    }  # fmt: skip
    back = shop.vmctl("box", "add", str(written), "--name", "back", "--json").answer["box"]
    assert (back["virtual_size"], back["cloud_init"]) == (SIZE, True)
    (listed,) = [row for row in shop.vmctl("box", "list", "-i", "--json").answer["boxes"] if row["name"] == "back"]
    assert listed["provenance"]["vagrant"]["info"] == {"author": "me"}
    assert listed["provenance"]["base"] == base, "what `box push` compares it with"
    assert listed["seeding"] == "cloud-init"


def test_a_box_of_vmctls_own_stays_one(shop: Project) -> None:
    record = shop.layout.machine("web").record
    known = json.loads(record.read_text())
    record.write_text(json.dumps({**known, "box": {**known["box"], "seeding": "vmctl"}}))
    shop.vmctl("package", "web")
    with tarfile.open(shop.root / "shop-web.box") as archive:
        metadata = json.loads(archive.extractfile("metadata.json").read())  # type: ignore[union-attr]
    assert metadata["vmctl"] == {"seeding": "vmctl", "base": "0" * 64}
    back = shop.vmctl("box", "add", str(shop.root / "shop-web.box"), "--name", "back", "--json").answer["box"]
    assert back["seeding"] == "vmctl"
    assert "  seeding: vmctl\n" in shop.vmctl("box", "list", "-i").out


def test_what_can_not_be_packaged(shop: Project) -> None:
    assert "machine db is not created" in shop.vmctl("package", "db", status=3).err
    shop.vmctl("up", "web")
    ran = shop.vmctl("package", "web", status=3)
    assert "machine web is running; it must be off" in ran.err
    assert "vmctl halt web" in ran.err
    (shop.root / "there.box").touch()
    assert "exists already" in shop.vmctl("package", "web", "--output", "there.box", status=2).err
    assert "there is no directory" in shop.vmctl("package", "web", "--output", "no/where.box", status=2).err
    (shop.root / "bad.json").write_text("[1]")
    assert "holds no JSON object" in shop.vmctl("package", "web", "--info", str(shop.root / "bad.json"), status=2).err
    assert "several" in shop.vmctl("package", status=2).err or "which" in shop.vmctl("package", status=2).err


@pytest.mark.parametrize("method", ["clone", "start", "export"])
def test_a_failure_leaves_nothing_and_the_next_try_works(shop: Project, method: str) -> None:
    driver = fake(shop)
    driver.fail(method)
    shop.vmctl("package", "web", status=1)
    assert [observed.tag.machine for observed in driver.states().values()] == ["web"]
    assert not list(shop.root.glob("*.box"))
    assert not list(shop.root.glob(".shop*"))
    driver.mend()
    shop.vmctl("package", "web")


def test_what_a_killed_vmctl_left_goes_with_the_next_try(shop: Project) -> None:
    driver = fake(shop)
    with driver._machines.open() as content:  # as a kill in the middle would leave it
        (name,) = content.machines
        machine = content.machines[name]
        tag = structs.replace(machine.tag, machine=f"{machine.tag.machine}.package")
        content.machines[f"{name}.package"] = dataclasses.replace(machine, tag=tag)
    shop.vmctl("package", "web")
    assert len(driver.states()) == 1


@pytest.fixture
def unseeded(project: Project) -> Path:
    """Home directory of the login user in guests that take no seed; they have Vagrant's published key."""
    home = project.home / "guests"
    (home / ".ssh").mkdir(parents=True)
    key_pairs.ensure(home / "host_key")
    (home / ".ssh" / "authorized_keys").write_text(f"{box.published_line()}\nssh-ed25519 AAAA the user's own\n")
    make_box(project.home, "old", first_key=box.PUBLISHED)
    return home


def test_a_guest_without_a_seed_gets_a_key_of_its_own_at_once(project: Project, unseeded: Path) -> None:
    (project.root / "Vmfile").write_text("box: old\nprovider: fakeguests\nsynced_folders: []\n")
    project.vmctl("up")
    machine = project.layout.machine("default")
    own = key_pairs.ensure(machine.key)
    assert (unseeded / ".ssh" / "authorized_keys").read_text() == f"ssh-ed25519 AAAA the user's own\n{own}\n"
    assert not machine.first_key.exists()
    shown = key_pairs.ensure(unseeded / "host_key").split()
    assert machine.known_hosts.read_text() == f"default {shown[0]} {shown[1]}\n"
    assert json.loads(machine.record.read_text())["box"]["cloud_init"] is False
    assert project.vmctl("up", "--json").answer["changed"] is False
    project.vmctl("reload")
    assert [observed.state for observed in fake(project).states().values()] == [State.RUNNING]


PASSWORD = "tra la'\\"  # noqa: S105  of the test's own server


@pytest.fixture
def with_password(project: Project, unseeded: Path) -> Iterator[Path]:
    """As ``unseeded``, with a password and without the published key."""
    (unseeded / ".ssh" / "authorized_keys").write_text("ssh-ed25519 AAAA the user's own\n")
    (unseeded / "password").write_text(PASSWORD)
    yield unseeded
    with suppress(VmctlError, AssertionError):
        project.vmctl("destroy", "--yes")


def test_a_guest_with_a_password_gets_a_key_at_once(project: Project, with_password: Path) -> None:
    secret = project.root / "secret"
    secret.write_text(f"{PASSWORD}\n")
    (project.root / "elder.qcow2").write_bytes(qcow2(size=SIZE))
    added = project.vmctl("box", "add", "elder.qcow2", "--no-cloud-init", "--password-file", "secret", "-vv", "--json")
    listed = project.vmctl("box", "list", "-i", "--json")
    (row,) = [row for row in listed.answer["boxes"] if row["name"] == "elder"]
    assert (row["first_key"], row["first_password"]) == ("published", True)
    assert "  first login: Vagrant's published key, or a password\n" in project.vmctl("box", "list", "-i").out
    assert "is in the store already" in project.vmctl("box", "add", "elder.qcow2", "--no-cloud-init").out
    (project.root / "Vmfile").write_text("box: elder\nprovider: fakeguests\nsynced_folders: []\nssh_port: 2222\n")
    up = project.vmctl("up", "-vv")
    machine = project.layout.machine("default")
    own = key_pairs.ensure(machine.key)
    assert (with_password / ".ssh" / "authorized_keys").read_text() == f"ssh-ed25519 AAAA the user's own\n{own}\n"
    assert not machine.first_password.exists()
    assert [forward["guest"] for forward in json.loads(machine.record.read_text())["forwards"]] == [2222]
    project.vmctl("exec", "default", "--", "true")
    (with_password / "password").write_text("changed since")
    project.vmctl("reload")

    project.vmctl("box", "repackage", "elder", "--output", "again.box")
    with tarfile.open(project.root / "again.box") as archive:
        assert b"config.ssh.password = 'tra la\\'\\\\'" in archive.extractfile("Vagrantfile").read()  # type: ignore[union-attr]
    project.vmctl("box", "add", "again.box")
    written = [path for path in project.home.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert {path.relative_to(project.home).parts[:2] for path in written} == {("boxes", "elder"), ("boxes", "again")}
    assert {(path.name, path.stat().st_mode & 0o777) for path in written} == {("first_password", 0o600)}
    state = [path for path in project.layout.root.rglob("*") if path.is_file()]
    assert not [path for path in state if PASSWORD.encode() in path.read_bytes()]
    for stated in (added, listed, up):
        assert PASSWORD not in stated.out + stated.err


def test_its_host_key_is_pinned(project: Project, unseeded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "UNSURE", 0.1)
    (project.root / "Vmfile").write_text("box: old\nprovider: fakeguests\nsynced_folders: []\n")
    project.vmctl("up")
    project.vmctl("halt")
    (unseeded / "host_key").unlink()
    (unseeded / "host_key.pub").unlink()
    key_pairs.ensure(unseeded / "host_key")
    assert "has another SSH host key than the machine" in project.vmctl("up", status=5).err


def test_a_box_that_takes_neither_key(project: Project, unseeded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "UNSURE", 0.1)
    (unseeded / ".ssh" / "authorized_keys").write_text("")
    (project.root / "Vmfile").write_text("box: old\nprovider: fakeguests\nsynced_folders: []\n")
    err = project.vmctl("up", status=5).err
    assert "with the machine's key and with its box's" in err


def test_a_vagrant_box_that_takes_the_seed(project: Project) -> None:
    make_box(project.home, "modern", first_key=box.PUBLISHED)
    (project.root / "Vmfile").write_text("box: modern\nprovider: fakeguests\nsynced_folders: []\n")
    project.vmctl("up")
    machine = project.layout.machine("default")
    assert json.loads(machine.record.read_text())["box"]["cloud_init"] is True
    assert machine.known_hosts.read_text().split()[1:] == key_pairs.ensure(machine.host_key).split()[:2]


def test_a_provider_that_can_not_take_several_disks_says_so_first(project: Project) -> None:
    disk = box.BoxImage(digest="1" * 64, format="qcow2", virtual_size=SIZE, size=1)
    made = make_box(project.home, "two", further=(disk,))
    (made.directory / f"{disk.digest}.qcow2").touch()
    (project.root / "Vmfile").write_text("box: two\nprovider: fakeguests\nsynced_folders: []\n")
    err = project.vmctl("up", status=2).err
    assert "the box two 1.0 (x86_64) has 2 disks, and fakeguests machines have one" in err
    assert not fake(project).states()
