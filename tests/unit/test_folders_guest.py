"""The guest's script, run for real in mount namespaces of its own, with tmpfs standing for the shared file system.

Each run is a namespace, so what an earlier run mounted comes back from fstab only: as after a reboot.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs

from vmctl import process
from vmctl.driver import Features, Share
from vmctl.errors import VmctlError
from vmctl.events import Event, Notice
from vmctl.folders import guest, offer
from vmctl.folders.guest import Answer, Prepared, WantedFolder, _result
from vmctl.process import Completed
from vmctl.spec import BoxRef, Folder, FolderKind, MachineSpec

FOREIGN = "UUID=1 / ext4 defaults 0 1\n"
NOTHING = Features(formats=("qcow2",), folders=())


@dataclass
class Guest:
    """Stands for a connection: a directory for /etc, and the mounts after the latest run."""

    root: Path
    mounts: str = ""
    login = SimpleNamespace(user="root")

    @property
    def fstab(self) -> str:
        return (self.root / "etc" / "fstab").read_text()

    def run(self, argv: list[str], *, input: str, sudo: bool, deadline: float) -> Completed:
        assert sudo
        etc = shlex.quote(str(self.root / "etc"))
        boot = f"mount --bind {etc} /etc; mount --all --types tmpfs"
        script = f"{boot}; {shlex.join(argv)}; status=$?; cat /proc/mounts >&2; exit $status"
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        completed = process.run(["unshare", "--mount", *user, "sh", "-c", script], input=input, deadline=deadline)
        self.mounts = completed.stderr
        return completed

    def prepare(self, *wanted: WantedFolder) -> Prepared:
        return guest.prepare(self, wanted)  # type: ignore[arg-type]  # all that the function needs of a connection

    def is_mounted(self, wanted: WantedFolder) -> bool:
        assert wanted.share is not None
        return f"{wanted.share.tag} {guest.fstab_field(wanted.folder.guest)} tmpfs" in self.mounts


@pytest.fixture
def machine(tmp_path: Path) -> Guest:
    etc = tmp_path / "etc"
    etc.mkdir()
    for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache"):
        shutil.copy(f"/etc/{name}", etc / name)
    (etc / "fstab").write_text(FOREIGN)
    return Guest(tmp_path)


def shared(path: Path, kind: str = "tmpfs", *, read_only: bool = False) -> WantedFolder:
    folder = Folder(host=Path("/host"), guest=str(path))
    fake: FolderKind = kind  # type: ignore[assignment]  # a file system that every kernel can mount
    return WantedFolder(
        folder=folder, share=Share(tag=offer.tag(folder), host=folder.host, kind=fake, read_only=read_only)
    )


def test_a_folder_is_mounted_and_comes_back_by_itself(machine: Guest) -> None:
    folder = shared(machine.root / "with space" / "project")
    prepared = machine.prepare(folder)
    assert prepared.owner == (0, 0)
    assert [answer.words for answer in prepared.answers] == [{"mounted": ""}]
    assert machine.is_mounted(folder)
    assert machine.fstab.startswith(FOREIGN)
    assert "/with\\040space/project tmpfs rw,nofail 0 0\n" in machine.fstab
    before = machine.fstab
    assert machine.prepare(folder).answers[0].words == {"mounted": ""}
    assert machine.fstab == before


def test_nested_folders_are_mounted_parents_first(machine: Guest) -> None:
    outer, inner = shared(machine.root / "srv"), shared(machine.root / "srv" / "deep" / "er")
    machine.prepare(outer, inner)
    assert machine.is_mounted(outer)
    assert machine.is_mounted(inner)
    machine.prepare(outer, inner)
    assert machine.is_mounted(outer)
    assert machine.is_mounted(inner)


def test_a_dropped_folder_is_unmounted_and_forgotten(machine: Guest) -> None:
    kept, dropped = shared(machine.root / "kept"), shared(machine.root / "dropped here")
    machine.prepare(kept, dropped)
    assert machine.prepare(kept).still_busy == ()
    assert machine.is_mounted(kept)
    assert not machine.is_mounted(dropped)
    machine.prepare()
    assert not machine.is_mounted(kept)
    assert machine.fstab == FOREIGN


def test_read_only_is_read_only(machine: Guest) -> None:
    folder = shared(machine.root / "project", read_only=True)
    assert machine.prepare(folder).answers[0].words == {"mounted": ""}
    assert "project tmpfs ro," in machine.mounts


def test_what_a_mount_hides_is_told(machine: Guest) -> None:
    (machine.root / "project").mkdir()
    (machine.root / "project" / "mine").write_text("x")
    assert set(machine.prepare(shared(machine.root / "project")).answers[0].words) == {"mounted", "hides"}


def test_a_file_system_that_the_kernel_does_not_know_falls_back_to_a_copy(machine: Guest) -> None:
    folder = shared(machine.root / "project", kind="nosuchfs")
    assert set(machine.prepare(folder).answers[0].words) == {"unknown", "copy"}
    assert (machine.root / "project").is_dir()
    assert machine.fstab == FOREIGN


def test_a_mount_point_that_can_not_be_made_is_told(machine: Guest) -> None:
    (machine.root / "file").write_text("x")
    (answer,) = machine.prepare(shared(machine.root / "file" / "project")).answers
    assert "Not a directory" in answer.words["failed"]


def test_a_copy_needs_a_directory_and_rsync(machine: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = WantedFolder(folder=Folder(host=Path("/host"), guest=str(machine.root / "copy"), kind="rsync"))
    assert machine.prepare(copy).answers[0].words == {"copy": ""}
    assert (machine.root / "copy").is_dir()
    tools = machine.root / "bin"
    tools.mkdir()
    for name in ("sh", "sed", "grep", "sort", "id", "tr", "cat", "mount", "unshare"):
        (tools / name).symlink_to(process.find(name))
    monkeypatch.setenv("PATH", str(tools))
    assert machine.prepare(copy).answers[0].words == {"norsync": ""}


def attached(machine: Guest, wanted: WantedFolder, events: list[Event]) -> dict[str, str]:
    spec = MachineSpec(name="web", box=BoxRef(address="debian-12"), folders=(wanted.folder,))
    shares = [wanted.share] if wanted.share else []
    nothing = Features(formats=(), folders=())
    return guest.attach(machine, spec, shares, features=nothing, login=machine.login, report=events.append)  # type: ignore[arg-type]


def test_what_is_mounted_is_returned_and_surprises_are_told(machine: Guest) -> None:
    path = machine.root / "project"
    path.mkdir()
    (path / "mine").write_text("x")
    events: list[Event] = []
    assert attached(machine, shared(path), events) == {str(path): "tmpfs"}
    (event,) = events
    assert isinstance(event, Notice)
    assert "was not empty in the guest" in event.text


def test_a_failed_mount_is_an_error_with_the_guests_words(machine: Guest) -> None:
    (machine.root / "file").write_text("x")
    with pytest.raises(VmctlError, match="could not be shared") as caught:
        attached(machine, shared(machine.root / "file" / "project"), [])
    assert "Not a directory" in caught.value.details
    assert caught.value.hint == "vmctl reload web"


def test_a_kind_that_was_asked_for_does_not_fall_back(machine: Guest) -> None:
    folder = Folder(host=Path("/host"), guest=str(machine.root / "project"), kind="virtiofs")
    unknown: FolderKind = "nosuchfs"  # type: ignore[assignment]  # stands for virtiofs in a kernel without it
    wanted = WantedFolder(folder=folder, share=Share(tag=offer.tag(folder), host=folder.host, kind=unknown))
    with pytest.raises(VmctlError, match="the guest's kernel has no nosuchfs"):
        attached(machine, wanted, [])


@pytest.mark.parametrize(("exclude", "shown"), [((), 0), (("node_modules",), 1)])
def test_a_live_folder_says_that_it_excludes_nothing(exclude: tuple[str, ...], shown: int) -> None:
    folder = Folder(host=Path("/src"), guest="/project", exclude=exclude)
    wanted = WantedFolder(folder=folder, share=Share(tag="t", host=folder.host, kind="virtiofs"))
    events: list[Event] = []
    assert _result("web", wanted, Answer(words={"mounted": ""}), NOTHING, events.append) == "virtiofs"
    assert len(events) == shown
    for event in events:
        assert isinstance(event, Notice)
        assert "`exclude` has no effect" in event.text


def test_a_vboxsf_that_can_not_mount_falls_back_to_a_copy_unless_it_was_asked_for() -> None:
    folder = Folder(host=Path("/src"), guest="/project")
    wanted = WantedFolder(folder=folder, share=Share(tag="t", host=folder.host, kind="vboxsf"))
    answer = Answer(words={"refused": "Protocol error", "copy": ""})
    events: list[Event] = []
    assert _result("web", wanted, answer, NOTHING, events.append) == "rsync"
    (event,) = events
    assert isinstance(event, Notice)
    assert "/project is a copy (the guest cannot mount vboxsf: Protocol error)" in event.text
    folder = Folder(host=Path("/src"), guest="/project", kind="vboxsf")
    wanted = WantedFolder(folder=folder, share=wanted.share)
    with pytest.raises(VmctlError, match="cannot mount vboxsf: Protocol error"):
        _result("web", wanted, answer, NOTHING, events.append)


def test_a_copy_in_place_of_a_live_folder_says_why_and_what_would_change_that() -> None:
    folder = Folder(host=Path("/src"), guest="/project")
    features = structs.replace(NOTHING, no_folders="there is no virtiofsd", folders_by="sudo apt-get install virtiofsd")
    events: list[Event] = []
    assert _result("web", WantedFolder(folder=folder), Answer(words={"copy": ""}), features, events.append) == "rsync"
    (event,) = events
    assert isinstance(event, Notice)
    assert "/project is a copy (there is no virtiofsd)" in event.text
    assert event.text.endswith("to have it live: sudo apt-get install virtiofsd")
