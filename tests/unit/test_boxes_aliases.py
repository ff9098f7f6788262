"""Names whose server ends: what is proposed, that it can be had, and where it is used."""

from __future__ import annotations

import re
import socket
import time
import tomllib
from pathlib import Path

import pytest

import vmctl_boxes
from vmctl.boxes import builtin, obtaining, recipe, web
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
    "name",
    [
        "team/web",
        "hashicorp/windows",
        "generic/freebsd14",
        "debian-12",
        "gusztavvargadr/windows-11",
        "oci://registry.example/arch",
        "/boxes/arch",
        "https://example.org/x/debian12",
        "./x/arch",
    ],
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
    assert caught.value.hint.startswith("write `box: debian-12` in the Vmfile: its publisher's own image; or `alias: ")
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
    ("aliases", "stated"),
    [("{'a b': x}", "expected the name of a box"), ("{a: [x]}", "a list"), ("x", "expected a mapping")],
)
def test_what_is_not_an_alias(aliases: str, stated: str, tmp_path: Path) -> None:
    with pytest.raises(VmfileInvalid, match=re.escape(stated)):
        machines(tmp_path, f"box: a\nbox_aliases: {aliases}\n")


def test_the_table_where_the_vmfile_wants_it(tmp_path: Path) -> None:
    members = (
        "{one: {}, two: {box: centos/7@2004.1}, three: {box: t/w}, four: {alias: false}, five: {box: oci://r/arch}}"
    )
    found = machines(tmp_path, f"box: generic/debian12\nalias: true\nmachines: {members}\n")
    assert {name: str(one.box) for name, one in found.items()} == {
        "one": "debian-12", "two": "almalinux-8", "three": "t/w", "four": "generic/debian12",
        "five": "oci://r/arch",
    }  # fmt: skip
    assert (found["one"].box_alias, found["one"].box_alias_by) == (
        "generic/debian12", "alias: true, its publisher's own image",
    )  # fmt: skip
    assert (found["two"].box_alias, found["two"].box_alias_by) == (
        "centos/7@2004.1", "alias: true, the nearest that is still supported",
    )  # fmt: skip
    assert [found[name].box_alias for name in ("three", "four", "five")] == ["", "", ""]


def test_what_people_write_goes_before_the_table(tmp_path: Path) -> None:
    text = "box: generic/debian12\nbox_aliases: {generic/debian12: team/debian}\nalias: true\n"
    (one,) = machines(tmp_path, text).values()
    assert (str(one.box), one.box_alias_by) == ("team/debian", "box_aliases")
    (one,) = machines(tmp_path, "box: generic/debian12\n", "alias: true\n").values()
    assert str(one.box) == "debian-12", "in the user's own"


def test_for_one_command(tmp_path: Path) -> None:
    (tmp_path / "Vmfile").write_text("box: generic/debian12\nalias: false\n")
    (one,) = load(tmp_path / "Vmfile", alias=True).machines
    assert (str(one.box), one.box_alias_by) == ("debian-12", "--alias, its publisher's own image")
    (one,) = load(tmp_path / "Vmfile", alias=True, box=BoxRef(address="tiny")).machines
    assert (str(one.box), one.box_alias) == ("tiny", ""), "`vmctl test --box`"


def test_what_is_no_answer_to_alias(tmp_path: Path) -> None:
    with pytest.raises(VmfileInvalid, match="did you mean true"):
        machines(tmp_path, "box: generic/debian12\nalias: 'yes'\n")


class TestTheHostedService:
    def test_it_is_not_asked_once_it_is_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("VMCTL_BOX_SERVER", raising=False)
        monkeypatch.setattr(time, "time", lambda: web.HOSTED_ENDS - 1)
        assert Access.from_environment().servers == Access().servers == ("https://vagrantcloud.com",)
        monkeypatch.setattr(time, "time", lambda: web.HOSTED_ENDS)
        assert Access.from_environment().servers == Access().servers == ()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("somebody was asked"))
        with pytest.raises(VmctlError, match="no server that could be asked knows the box generic/debian12") as caught:
            obtaining.obtain(Order(address="generic/debian12"), HomeLayout(tmp_path))
        assert "the default one has ended" in caught.value.details
        assert "box: debian-12" in caught.value.hint

    def test_who_names_it_has_it_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time", lambda: web.HOSTED_ENDS + 1)
        monkeypatch.setenv("VMCTL_BOX_SERVER", "https://vagrantcloud.com")
        assert Access.from_environment().servers == ("https://vagrantcloud.com",)
