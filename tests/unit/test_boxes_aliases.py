"""Names whose server ends: what is proposed, that it can be had, and where it is used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import vmctl_boxes
from vmctl.boxes import builtin, obtaining, recipe
from vmctl.boxes.aliases import proposed
from vmctl.boxes.request import Order
from vmctl.boxes.web import Access
from vmctl.errors import VmctlError
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef, MachineSpec
from vmctl.vmfile import VmfileInvalid, load

TABLE = tomllib.loads(vmctl_boxes.ALIASES.read_text())


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("ubuntu/jammy64", "ubuntu-22.04"), ("ubuntu/noble64", "ubuntu-24.04"), ("bento/ubuntu-24.04", "ubuntu-24.04"),
        ("generic/ubuntu2204", "ubuntu-22.04"), ("alvistack/ubuntu-24.04", "ubuntu-24.04"),
        ("debian/bookworm64", "debian-12"), ("generic/debian12", "debian-12"), ("Bento/Debian-12", "debian-12"),
        ("debian/trixie64", "debian-13"), ("almalinux/9", "almalinux-9"), ("generic/alma8", "almalinux-8"),
        ("almalinux/9.4.20240805", "almalinux-9"), ("rockylinux/9", "rocky-9"), ("bento/rockylinux-9.4", "rocky-9"),
        ("fedora/42-cloud-base", "fedora-42"), ("archlinux/archlinux", "arch"), ("generic/alpine319", "alpine-3"),
        ("opensuse/Leap-15.6.x86_64", "opensuse-leap-15"), ("opensuse/Tumbleweed.x86_64", "opensuse-tumbleweed"),
        ("cloud-image/ubuntu-22.04", "ubuntu-22.04"), ("generic-x64/debian12", "debian-12"),
    ],
)  # fmt: skip
def test_the_same_release(name: str, target: str) -> None:
    found = proposed(name)
    assert found is not None
    assert (found.target, found.same, found.line) == (target, True, f"box: {target}")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("ubuntu/focal64", "ubuntu-22.04"), ("ubuntu/trusty64", "ubuntu-22.04"), ("hashicorp/bionic64", "ubuntu-22.04"),
        ("generic/ubuntu2004", "ubuntu-22.04"), ("bento/ubuntu-18.04", "ubuntu-22.04"),
        ("debian/buster64", "debian-11"),
        ("generic/debian9", "debian-11"), ("centos/7", "almalinux-8"), ("generic/centos9s", "almalinux-9"),
        ("centos/stream9", "almalinux-9"), ("bento/centos-stream-9", "almalinux-9"), ("generic/rhel8", "almalinux-8"),
        ("fedora/38-cloud-base", "fedora-42"), ("generic/fedora39", "fedora-42"),
        ("generic/opensuse42", "opensuse-leap-15"),
    ],
)  # fmt: skip
def test_the_nearest_that_lives(name: str, target: str) -> None:
    found = proposed(name)
    assert found is not None
    assert (found.target, found.same) == (target, False)


@pytest.mark.parametrize(
    "name", ["team/web", "hashicorp/windows", "generic/freebsd14", "debian-12", "gusztavvargadr/windows-11"]
)
def test_what_nobody_knows(name: str) -> None:
    assert proposed(name) is None


def test_every_target_can_be_had() -> None:
    targets = {target for section in TABLE.values() for target in section.values()}
    assert targets <= {*builtin.entries(), *recipe.names()}
    assert set(TABLE) == {"same", "successor"}


def test_an_error_says_what_to_write(tmp_path: Path) -> None:
    nobody = Access(servers=("http://127.0.0.1:1",))
    with pytest.raises(VmctlError, match="no server that could be asked knows") as caught:
        obtaining.obtain(Order(address="generic/debian12", access=nobody), HomeLayout(tmp_path))
    assert caught.value.hint == "write `box: debian-12` in the Vmfile: its publisher's own image"
    with pytest.raises(VmctlError) as caught:
        obtaining.obtain(Order(address="team/web", access=nobody), HomeLayout(tmp_path))
    assert caught.value.hint.startswith("vmctl box add URL")


def machines(tmp_path: Path, text: str, user: str = "") -> dict[str, MachineSpec]:
    """The machines of a Vmfile, with the user's own beside it."""
    for path, content in ((tmp_path / "Vmfile", text), (tmp_path / "config" / "vmctl" / "Vmfile", user)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return {machine.name: machine for machine in load(tmp_path / "Vmfile").machines}


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_the_users_own_and_the_projects(tmp_path: Path) -> None:
    members = "{one: {}, two: {box: 'c/d@~>1.0'}, three: {box: debian-12}}"
    text = f"box_aliases: {{a/b: ./here.img}}\nbox: a/b\nmachines: {members}\n"
    user = "box_aliases: {a/b: debian-13, c/d: 'oci://r.example/d:1', debian-12: debian-12}\n"
    found = machines(tmp_path, text, user)
    assert (found["one"].box, found["one"].box_alias) == (BoxRef(address=str(tmp_path / "here.img")), "a/b")
    assert (found["two"].box, found["two"].box_alias) == (BoxRef(address="oci://r.example/d:1"), "c/d@~>1.0")
    assert found["three"].box == BoxRef(address="debian-12")


def test_who_says_the_box_itself_is_not_told_of_an_alias(tmp_path: Path) -> None:
    text = "box_aliases: {a/b: x/y, x/y: z/z}\nmachines: {one: {box: a/b}, two: {box: x/y@1}}\n"
    found = machines(tmp_path, text)
    assert [(str(one.box), one.box_alias) for one in found.values()] == [("x/y", "a/b"), ("z/z", "x/y@1")], "one step"
    assert machines(tmp_path, "box: x/y\n")["default"].box_alias == ""


@pytest.mark.parametrize(
    ("aliases", "said"),
    [("{'a b': x}", "expected the name of a box"), ("{a: [x]}", "a list"), ("x", "expected a mapping")],
)
def test_what_is_not_an_alias(aliases: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(VmfileInvalid, match=re.escape(said)):
        machines(tmp_path, f"box: a\nbox_aliases: {aliases}\n")
