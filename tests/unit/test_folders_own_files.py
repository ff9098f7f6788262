"""A folder never shows a guest vmctl's own files, however it is spelled, linked or mounted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmctl import folders
from vmctl.driver import Features
from vmctl.errors import UsageError
from vmctl.folders import own_files
from vmctl.spec import BoxRef, Folder, FolderKind, MachineSpec

LIVE = Features(formats=("qcow2",), folders=("virtiofs",))


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


def offer(*hosts: Path, kind: FolderKind = "auto") -> None:
    shared = tuple(Folder(host=host, guest=f"/srv/{number}", kind=kind) for number, host in enumerate(hosts))
    folders.shares(MachineSpec(name="web", box=BoxRef(address="x"), folders=shared), LIVE, user_uid=None)


@pytest.mark.parametrize("kind", ["auto", "rsync", "virtiofs"])
@pytest.mark.parametrize("path", ["", ".local", ".local/share", "src/.."])
def test_what_contains_it_is_refused(person: Path, path: str, kind: FolderKind) -> None:
    with pytest.raises(UsageError, match=f"web: {person}.* contains {person}/.local/share/vmctl") as caught:
        offer(person / path, kind=kind)
    assert caught.value.hint.startswith("share a subdirectory instead, or keep them elsewhere: mv -n -- ")
    assert "export VMCTL_HOME=" in caught.value.hint


@pytest.mark.parametrize("path", ["", "projects", "projects/abc", "projects/abc/machines"])
def test_what_lies_in_it_is_refused(person: Path, path: str) -> None:
    with pytest.raises(UsageError, match=r"(contains|lies in)"):
        offer(person / ".local/share/vmctl" / path)


def test_what_lies_beside_it_is_shared(person: Path) -> None:
    (person / ".local/share/vmctl-notes").mkdir()
    offer(person / "src", person / "src/shop", person / ".local/share/vmctl-notes")


def test_it_is_refused_before_it_is_there_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMCTL_HOME", str(tmp_path / "shop/later/on"))
    (tmp_path / "shop").mkdir()
    with pytest.raises(UsageError, match="contains"):
        offer(tmp_path / "shop")


def test_links_do_not_hide_it(person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(person / ".local")
    with pytest.raises(UsageError, match="contains"):
        offer(tmp_path / "link")
    (tmp_path / "data").symlink_to(person / ".local/share/vmctl")
    monkeypatch.setenv("VMCTL_HOME", str(tmp_path / "data"))
    with pytest.raises(UsageError, match="contains"):
        offer(person)


def test_all_folders_are_named(person: Path) -> None:
    with pytest.raises(UsageError, match="web: 2 folders") as caught:
        offer(person, person / "src", person / ".local")
    assert f"{person} contains" in caught.value.details
    assert f"{person}/.local contains" in caught.value.details


MOUNTED = """
import os, subprocess, sys
from pathlib import Path
from vmctl.errors import UsageError
from vmctl.folders import own_files
from vmctl.spec import BoxRef, Folder, MachineSpec

top = Path(sys.argv[1])
def refused(host):
    try:
        own_files.check(MachineSpec(name="web", box=BoxRef(address="x"), folders=(Folder(host=host, guest="/a"),)))
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
    monkeypatch.setattr(own_files, "MOUNTS", tmp_path / "none")
    with pytest.raises(UsageError, match="contains"):
        offer(person)
