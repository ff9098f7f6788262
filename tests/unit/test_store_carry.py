"""What an older vmctl kept in a project's directory: carried over once, whole or not at all, and through the door."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmctl.errors import LockTimeout, WrongState
from vmctl.layout import HomeLayout
from vmctl.machine_names import everywhere, recorded
from vmctl.store import carry, door, files, project_identity

ID = "0123456789abcdef" * 2
CONTENT = {
    "machine.json": "{}",
    "journal": "a\n",
    "id_ed25519": "PRIVATE",
    "id_ed25519.pub": "PUBLIC",
    "host_ed25519": "HOST",
    "known_hosts": "web ssh-ed25519 AAAA\n",
    "provisioned.json": "{}",
    "seed.iso": "SEED",
    "console.log": "Linux version 6\n",
}


@pytest.fixture
def home(private_home: Path) -> HomeLayout:
    return HomeLayout(private_home)


@pytest.fixture
def root(tmp_path: Path, home: HomeLayout) -> Path:
    return old_project(tmp_path / "p", home)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def old_project(root: Path, home: HomeLayout, project: str = ID) -> Path:
    """A project as vmctl left it before."""
    machine = root / ".vmctl" / "machines" / "web"
    (machine / "synced").mkdir(parents=True)
    (root / ".vmctl" / "project.json").write_text(json.dumps({"id": project, "created": 1}))
    (root / ".vmctl" / "history").write_text('{"run": "1"}\n')
    (root / ".vmctl" / "Vmfile.schema.json").write_text("{}")
    for place in ("galaxy", "runner", "locks"):
        (root / ".vmctl" / place).mkdir()
    (root / ".vmctl" / "runner" / "extravars").write_text("secret")
    for name, text in CONTENT.items():
        (machine / name).write_text(text)
    (machine / "ssh_config").write_text("Host web\n  ProxyCommand evil\n")
    (machine / "synced" / "abc").write_text("x\0")
    index = json.loads(home.old_index.read_text()) if home.old_index.exists() else {}
    home.old_index.write_text(json.dumps({**index, project: str(root)}))
    return root


def carried(home: HomeLayout) -> dict[str, str]:
    machine = home.projects / ID / "machines" / "web"
    return {path.name: path.read_text() for path in machine.iterdir() if path.is_file()}


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root / ".vmctl")) for path in (root / ".vmctl").rglob("*") if path.is_file()}


def test_a_question_carries_all_over_and_nothing_stays_for_the_guest(root: Path, home: HomeLayout) -> None:
    place = project_identity.find(root, home)
    assert place is not None
    assert place.id == ID
    assert carried(home) == CONTENT
    assert (home.projects / ID / "machines" / "web" / "synced" / "abc").read_text() == "x\0"
    assert (home.projects / ID / "history").read_text() == '{"run": "1"}\n'
    in_use = {"machines/web/console.log", "machines/web/seed.iso"}
    assert left(root) == {".gitignore", "project.json", "Vmfile.schema.json"} | in_use
    assert (home.projects / ID / "machines" / "web" / "id_ed25519").stat().st_mode & 0o777 == 0o600
    carry.forget_media(root / ".vmctl", "web")
    assert names(root / ".vmctl") == [".gitignore", "Vmfile.schema.json", "project.json"]
    assert project_identity.ensure(root, home) == place


class Killed(BaseException):
    """Stands for kill -9: nothing cleans up after it."""


def die(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Let change number ``at`` of the file system, of any kind, and all after it, not happen."""
    count = 0

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count >= at:
                raise Killed
            return real(*args, **options)

        return call

    for name in ("replace", "unlink", "rmdir", "rename", "mkdir", "fsync"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


def test_killed_anywhere_nothing_is_lost(tmp_path: Path, home: HomeLayout) -> None:
    for number in itertools.count(1):
        shutil.rmtree(home.projects, ignore_errors=True)
        home.old_index.unlink(missing_ok=True)
        root = old_project(tmp_path / f"p{number}", home)
        with pytest.MonkeyPatch.context() as patch:
            die(patch, at=number)
            try:
                project_identity.find(root, home)
            except Killed:
                pass
            else:
                break
        whole = [
            machine
            for machine in (root / ".vmctl" / "machines" / "web", home.projects / ID / "machines" / "web")
            if all((machine / name).exists() and (machine / name).read_text() == CONTENT[name] for name in CONTENT)
        ]
        assert whole, f"killed at change {number}: no place has all"
        place = project_identity.find(root, home)
        assert place is not None, f"killed at change {number}"
        assert (place.id, carried(home)) == (ID, CONTENT), f"killed at change {number}"
        assert not {name for name in left(root) if "ed25519" in name or "extravars" in name}, number
        assert names(home.projects) == [ID], f"remains of change {number}"
    assert number > 30


def test_all_projects_of_old_are_found_without_being_used(tmp_path: Path, home: HomeLayout) -> None:
    for number in range(3):
        old_project(tmp_path / f"p{number}", home, f"{number:032x}")
    assert [(root.name, name) for _, root, name in everywhere(home)] == [("p0", "web"), ("p1", "web"), ("p2", "web")]


def test_a_moved_project_of_old_is_carried_over_and_a_copy_is_refused(
    root: Path, home: HomeLayout, tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "copy")
    with pytest.raises(WrongState, match=f"copy is a copy of {root}") as caught:
        project_identity.ensure(tmp_path / "copy", home)
    assert caught.value.hint.startswith(f"vmctl -C {root} status")
    assert "id_ed25519" in names(tmp_path / "copy" / ".vmctl" / "machines" / "web")
    root.rename(tmp_path / "moved")
    place = project_identity.find(tmp_path / "moved", home)
    assert place is not None
    assert (place.id, place.root) == (ID, str(tmp_path / "moved"))
    assert project_identity.ensure(tmp_path / "copy", home).id != ID


def test_what_the_index_does_not_name_is_not_believed_unless_the_user_says_so(root: Path, home: HomeLayout) -> None:
    home.old_index.unlink()
    assert project_identity.find(root, home) is None
    with pytest.raises(WrongState, match="has machines that vmctl has no record of: web") as caught:
        project_identity.ensure(root, home)
    assert caught.value.hint.startswith("vmctl adopt")
    assert not home.projects.exists()
    assert project_identity.adopt(root, home).id == ID
    assert carried(home) == CONTENT


def hostile() -> Iterator[tuple[str, Callable[[Path, Path], None]]]:
    def link(place: str) -> Callable[[Path, Path], None]:
        def make(state: Path, outside: Path) -> None:
            files.remove_tree(state / place)
            (state / place).unlink(missing_ok=True)
            (state / place).symlink_to(outside if place.rsplit("/", 1)[-1] in DIRECTORIES else outside / "victim")

        return make

    for place in (
        "machines", "machines/web", "machines/web/synced", "machines/web/id_ed25519", "machines/web/journal",
        "machines/web/console.log", "machines/web/seed.iso", "history", "runner", "galaxy", "locks",
    ):  # fmt: skip
        yield place, link(place)

    def fifo(state: Path, _outside: Path) -> None:
        (state / "machines" / "web" / "journal").unlink()
        os.mkfifo(state / "machines" / "web" / "journal")

    yield "a FIFO", fifo
    yield "an option", lambda state, _outside: (state / "machines" / "-oProxyCommand=touch x").mkdir()
    yield "a way out", lambda state, outside: (state / "locks" / "x.lock").symlink_to(outside / "victim")


DIRECTORIES = ("machines", "web", "synced", "runner", "galaxy", "locks")


@pytest.mark.parametrize(("attack", "make"), list(hostile()), ids=[name for name, _ in hostile()])
def test_what_a_guest_left_there_leads_nowhere(
    root: Path, home: HomeLayout, tmp_path: Path, attack: str, make: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("precious")
    make(root / ".vmctl", outside)
    try:
        place = project_identity.find(root, home)
    except door.ForeignFile:
        place = None
    assert ((outside / "victim").read_text(), names(outside)) == ("precious", ["victim"])
    copied = [path.read_bytes() for path in home.projects.rglob("*") if path.is_file()] if place else []
    assert b"precious" not in copied
    assert place is None or set(recorded(place.layout(home))) <= {"web"}
    assert attack in {"machines", "machines/web", "locks", "machines/web/synced"} or place is not None


def test_nobody_of_an_older_vmctl_is_disturbed(root: Path, home: HomeLayout) -> None:
    lock = root / ".vmctl" / "locks" / "web"
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(LockTimeout, match="an older vmctl is at work"):
            project_identity.find(root, home)
    assert project_identity.find(root, home) is not None
