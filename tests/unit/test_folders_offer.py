"""Which folders are offered and how; and none shows a guest vmctl's own files, however it is spelled or mounted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmctl import folders
from vmctl.driver import Features
from vmctl.errors import UsageError
from vmctl.folders import offer
from vmctl.spec import BoxRef, Folder, FolderKind, MachineSpec

LIVE = Features(formats=("qcow2",), folders=("virtiofs",))
NOTHING = Features(formats=("qcow2",), folders=())


def machine(*shared: Folder) -> MachineSpec:
    return MachineSpec(name="web", box=BoxRef(address="debian-12"), folders=shared)


def folder(host: Path, guest: str = "/project", kind: FolderKind = "auto", *, read_only: bool = False) -> Folder:
    return Folder(host=host, guest=guest, kind=kind, read_only=read_only)


def test_auto_takes_the_best_that_the_driver_has(tmp_path: Path) -> None:
    both = Features(formats=(), folders=("virtiofs", "9p"))
    (share,) = folders.shares(machine(folder(tmp_path)), both, user_uid=None)
    assert (share.kind, share.host, share.owner) == ("virtiofs", tmp_path, None)


def test_auto_and_rsync_offer_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    spec = machine(folder(tmp_path), folder(tmp_path, "/copy", "rsync"))
    assert folders.shares(spec, NOTHING, user_uid=1000) == ()
    assert [share.tag for share in folders.shares(spec, LIVE, user_uid=1000)] == [offer.tag(spec.folders[0])]


def test_a_kind_that_is_not_to_be_had_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the folder /project cannot be shared by 9p here") as caught:
        folders.shares(machine(folder(tmp_path, kind="9p")), LIVE, user_uid=None)
    assert caught.value.details == "Here, folders can be shared by virtiofs and rsync."


def test_the_refusal_says_why_and_what_would_change_that(tmp_path: Path) -> None:
    none = Features(formats=(), folders=(), no_folders="there is no virtiofsd", folders_by="apt-get install virtiofsd")
    with pytest.raises(UsageError, match="cannot be shared by virtiofs here: there is no virtiofsd") as caught:
        folders.shares(machine(folder(tmp_path, kind="virtiofs")), none, user_uid=None)
    assert caught.value.hint == "apt-get install virtiofsd"


def test_tags_are_short_and_belong_to_the_guest_path(tmp_path: Path) -> None:
    tags = {offer.tag(folder(tmp_path, f"/{'x' * length}")) for length in range(1, 200)}
    assert len(tags) == 199
    assert max(map(len, tags)) <= 36
    assert offer.tag(folder(tmp_path)) == offer.tag(folder(tmp_path.parent))


def test_the_owner_is_mapped_only_where_it_differs_from_the_login_user(tmp_path: Path) -> None:
    own = tmp_path.stat().st_uid
    spec = machine(folder(tmp_path))
    assert folders.shares(spec, LIVE, user_uid=own)[0].owner is None
    assert folders.shares(spec, LIVE, user_uid=own + 1)[0].owner == (own + 1, own + 1)


@pytest.mark.parametrize(("owner", "uid"), [(0, 1000), (999, 1000), (1000, 1000), (1234, 1234), (65534, 1000)])
def test_the_login_user_has_the_uid_of_the_person_who_owns_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, uid: int
) -> None:
    read_only = tmp_path / "read-only"
    read_only.mkdir()
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = list(real(path, follow_symlinks=follow_symlinks))
        found[4] = owner if path == tmp_path else 4321
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", stat)
    spec = machine(folder(read_only, "/ro", read_only=True), folder(tmp_path))
    assert folders.login_uid(spec) == uid


def test_without_folders_the_login_user_is_the_first(tmp_path: Path) -> None:
    assert folders.login_uid(machine()) == 1000
    assert folders.login_uid(machine(folder(tmp_path / "gone"))) == 1000


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with vmctl's data directory in it, where it is by default."""
    person = tmp_path / "person"
    (person / ".local/share/vmctl/projects/abc/machines").mkdir(parents=True)
    (person / "src/shop").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(person))
    monkeypatch.delenv("VMCTL_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return person


def share(*hosts: Path, kind: FolderKind = "auto") -> None:
    shared = tuple(Folder(host=host, guest=f"/srv/{number}", kind=kind) for number, host in enumerate(hosts))
    folders.shares(MachineSpec(name="web", box=BoxRef(address="x"), folders=shared), LIVE, user_uid=None)


@pytest.mark.parametrize("kind", ["auto", "rsync", "virtiofs"])
@pytest.mark.parametrize("path", ["", ".local", ".local/share", "src/.."])
def test_what_contains_it_is_refused(person: Path, path: str, kind: FolderKind) -> None:
    with pytest.raises(UsageError, match=f"web: {person}.* contains {person}/.local/share/vmctl") as caught:
        share(person / path, kind=kind)
    assert caught.value.hint.startswith("share a subdirectory instead, or keep them elsewhere: mv -n -- ")
    assert "export VMCTL_HOME=" in caught.value.hint


@pytest.mark.parametrize("path", ["", "projects", "projects/abc", "projects/abc/machines"])
def test_what_lies_in_it_is_refused(person: Path, path: str) -> None:
    with pytest.raises(UsageError, match=r"(contains|lies in)"):
        share(person / ".local/share/vmctl" / path)


def test_what_lies_beside_it_is_shared(person: Path) -> None:
    (person / ".local/share/vmctl-notes").mkdir()
    share(person / "src", person / "src/shop", person / ".local/share/vmctl-notes")


def test_it_is_refused_before_it_is_there_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMCTL_HOME", str(tmp_path / "shop/later/on"))
    (tmp_path / "shop").mkdir()
    with pytest.raises(UsageError, match="contains"):
        share(tmp_path / "shop")


def test_links_do_not_hide_it(person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(person / ".local")
    with pytest.raises(UsageError, match="contains"):
        share(tmp_path / "link")
    (tmp_path / "data").symlink_to(person / ".local/share/vmctl")
    monkeypatch.setenv("VMCTL_HOME", str(tmp_path / "data"))
    with pytest.raises(UsageError, match="contains"):
        share(person)


def test_all_folders_are_named(person: Path) -> None:
    with pytest.raises(UsageError, match="web: 2 folders") as caught:
        share(person, person / "src", person / ".local")
    assert f"{person} contains" in caught.value.details
    assert f"{person}/.local contains" in caught.value.details


MOUNTED = """
import os, subprocess, sys
from pathlib import Path
from vmctl.errors import UsageError
from vmctl.folders import offer
from vmctl.spec import BoxRef, Folder, MachineSpec

top = Path(sys.argv[1])
def refused(host):
    try:
        offer.refuse_own_files(
            MachineSpec(name="web", box=BoxRef(address="x"), folders=(Folder(host=host, guest="/a"),))
        )
    except UsageError:
        return True
    return False
def mount(what, where):
    where.mkdir(parents=True)
    subprocess.run(["mount", "--bind", "--", what, where], check=True)
home = top / "person/.local/share/vmctl"
mount(top / "person/.local", top / "a")
mount(home / "projects", top / "b")
mount(home / "projects/abc", top / "with space/c")
mount(home, top / "outer/inner/d")
mount(top / "person/src", top / "e/f")
print(*[refused(top / name) for name in ("a", "a/share", "b", "with space/c", "with space", "outer", "e", "e/f")])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_bind_mounts_do_not_hide_it(person: Path, tmp_path: Path) -> None:
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", MOUNTED, str(tmp_path)]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["True"] * 6 + ["False"] * 2


def test_a_system_without_a_list_of_mounts_compares_the_folder_itself(
    person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offer, "MOUNTS", tmp_path / "none")
    with pytest.raises(UsageError, match="contains"):
        share(person)
