"""Which directory is which project: a claim is compared with the host's own records, never believed alone."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from vmctl.errors import UsageError, VmctlError
from vmctl.events import Event, Notice
from vmctl.layout import HomeLayout
from vmctl.store import project_identity
from vmctl.store.places import ProjectPlace


@pytest.fixture
def home(private_home: Path) -> HomeLayout:
    return HomeLayout(private_home)


def directory(path: Path) -> Path:
    path.mkdir()
    return path


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def claim(root: Path) -> Path:
    return root / ".vmctl" / "project.json"


def anew(root: Path) -> None:
    """The same content in a directory of another inode, as after a restore."""
    aside = root.with_name(f"{root.name}.aside")
    root.rename(aside)
    shutil.copytree(aside, root)
    shutil.rmtree(aside)


def found(root: Path, home: HomeLayout) -> str | None:
    place = project_identity.find(root, home)
    return place.id if place else None


def test_made_once_private_and_apart_from_the_project(home: HomeLayout, tmp_path: Path) -> None:
    root = directory(tmp_path / "p")
    assert project_identity.find(root, home) is None
    made = project_identity.ensure(root, home)
    assert project_identity.ensure(root, home) == made == project_identity.find(root, home)
    state = made.layout(home).root
    assert state == home.root / "projects" / made.id
    assert [stat.S_IMODE(path.stat().st_mode) for path in (state, root / ".vmctl")] == [0o700, 0o700]
    assert names(root / ".vmctl") == [".gitignore", "project.json"]
    assert (root / ".vmctl" / ".gitignore").read_text() == "*\n"
    assert [place.root for place in project_identity.known(home)] == [str(root)]


@pytest.mark.parametrize("spelling", ["link", "p/../p", "p/.", "over/p"])
def test_one_directory_is_one_project_however_it_is_spelled(home: HomeLayout, tmp_path: Path, spelling: str) -> None:
    root = directory(tmp_path / "p")
    made = project_identity.ensure(root, home)
    (tmp_path / "link").symlink_to("p")
    (tmp_path / "over").symlink_to(".")
    other = Path(os.fspath(tmp_path) + "/" + spelling)
    assert found(other, home) == made.id
    assert project_identity.ensure(other, home) == made
    claim(root).unlink()
    assert project_identity.ensure(other, home) == made
    assert claim(root).exists()


def test_a_moved_project_keeps_its_id(home: HomeLayout, tmp_path: Path) -> None:
    made = project_identity.ensure(directory(tmp_path / "old"), home)
    (tmp_path / "old").rename(tmp_path / "new")
    assert found(tmp_path / "new", home) == made.id
    moved = project_identity.ensure(tmp_path / "new", home)
    assert (moved.id, moved.root) == (made.id, str(tmp_path / "new"))
    directory(tmp_path / "old")
    assert found(tmp_path / "old", home) is None


def test_one_that_was_moved_to_another_file_system_or_restored_keeps_it_too(home: HomeLayout, tmp_path: Path) -> None:
    made = project_identity.ensure(directory(tmp_path / "old"), home)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    shutil.rmtree(tmp_path / "old")
    assert project_identity.ensure(tmp_path / "new", home).id == made.id
    anew(tmp_path / "new")
    assert project_identity.ensure(tmp_path / "new", home).id == made.id


@pytest.mark.parametrize("renamed", [False, True])
def test_a_copy_becomes_a_project_of_its_own(home: HomeLayout, tmp_path: Path, *, renamed: bool) -> None:
    original, copy = directory(tmp_path / "old"), tmp_path / "copy"
    made = project_identity.ensure(original, home)
    shutil.copytree(original, copy)
    if renamed:
        original = original.rename(tmp_path / "elsewhere")
    reported: list[Event] = []
    assert found(copy, home) is None
    other = project_identity.ensure(copy, home, report=reported.append)
    assert other.id != made.id
    assert [event.text for event in reported if isinstance(event, Notice)] == [
        f"{copy} is a copy of {tmp_path / 'old'}; it is a project of its own now, with machines of its own"
    ]
    assert project_identity.ensure(original, home).id == made.id
    assert project_identity.ensure(copy, home) == other


def test_a_restored_original_is_told_from_its_copy(home: HomeLayout, tmp_path: Path) -> None:
    root, copy = directory(tmp_path / "p"), tmp_path / "copy"
    made = project_identity.ensure(root, home)
    shutil.copytree(root, copy)
    anew(root)
    assert found(copy, home) is None
    assert found(root, home) == made.id


def forged(own: ProjectPlace, other: ProjectPlace, kind: str) -> str:
    claims = {
        "none": "",
        "garbage": "{" * 20_000,
        "a list": "[]",
        "the other's id": json.dumps({"id": other.id}),
        "with its own proof": json.dumps({"id": other.id, "claim": own.claim}),
        "a path": json.dumps({"id": f"../{other.id}", "claim": other.claim}),
        "the other's claim": json.dumps({"id": other.id, "claim": other.claim}),
    }
    return claims[kind]


@pytest.mark.parametrize(
    "kind",
    ["none", "garbage", "a list", "the other's id", "with its own proof", "a path", "the other's claim"],
)
@pytest.mark.parametrize("other_is_gone", [False, True])
def test_what_a_guest_writes_into_the_claim_changes_nothing(
    home: HomeLayout, tmp_path: Path, kind: str, *, other_is_gone: bool
) -> None:
    root, victim = directory(tmp_path / "p"), directory(tmp_path / "victim")
    own, other = project_identity.ensure(root, home), project_identity.ensure(victim, home)
    claim(root).write_text(forged(own, other, kind))
    if other_is_gone:
        shutil.rmtree(victim)
    assert found(root, home) == own.id
    assert project_identity.ensure(root, home) == own
    assert json.loads(claim(root).read_text())["id"] == own.id


@pytest.mark.parametrize("kind", ["the other's id", "with its own proof", "a path"])
def test_a_strangers_directory_is_no_project_of_ours(home: HomeLayout, tmp_path: Path, kind: str) -> None:
    own, other = (project_identity.ensure(directory(tmp_path / name), home) for name in ("p", "victim"))
    shutil.rmtree(tmp_path / "victim")
    stranger = directory(tmp_path / "stranger")
    (stranger / ".vmctl").mkdir()
    claim(stranger).write_text(forged(own, other, kind))
    assert found(stranger, home) is None
    assert project_identity.ensure(stranger, home).id not in (own.id, other.id)


@pytest.mark.parametrize("place", [".vmctl", ".vmctl/project.json", ".vmctl/.gitignore"])
def test_a_link_in_the_tree_is_not_followed(home: HomeLayout, tmp_path: Path, place: str) -> None:
    root, outside = directory(tmp_path / "p"), directory(tmp_path / "outside")
    made = project_identity.ensure(root, home)
    victim = outside / "victim"
    victim.write_text("precious")
    shutil.rmtree(root / ".vmctl")
    if place != ".vmctl":
        (root / ".vmctl").mkdir()
    (root / place).symlink_to(outside if place == ".vmctl" else victim)
    if place == ".vmctl":
        with pytest.raises(VmctlError, match=r"\.vmctl is not what vmctl made"):
            project_identity.ensure(root, home)
        assert found(root, home) == made.id
    else:
        assert project_identity.ensure(root, home) == made
    assert (victim.read_text(), names(outside)) == ("precious", ["victim"])


def test_a_directory_made_again_is_another_project_until_it_is_adopted(home: HomeLayout, tmp_path: Path) -> None:
    root = directory(tmp_path / "p")
    made = project_identity.ensure(root, home)
    made.layout(home).machine("web").root.mkdir(parents=True)
    root.rename(tmp_path / "aside")
    shutil.rmtree(tmp_path / "aside")
    directory(tmp_path / "keeps the inode's number")
    directory(root)
    if project_identity.find(root, home) is not None:
        pytest.fail("a new directory at an old path was taken for the project that was there")
    assert [place.id for place in project_identity.at(root, home)] == [made.id]
    assert project_identity.adopt(root, home).id == made.id
    assert found(root, home) == made.id
    with pytest.raises(UsageError, match="has machines of its own"):
        project_identity.adopt(root, home)


def test_a_copy_can_be_made_the_project(home: HomeLayout, tmp_path: Path) -> None:
    made = project_identity.ensure(directory(tmp_path / "p"), home)
    shutil.copytree(tmp_path / "p", tmp_path / "copy")
    assert project_identity.adopt(tmp_path / "copy", home).id == made.id
    assert project_identity.ensure(tmp_path / "p", home).id != made.id
    with pytest.raises(UsageError, match="is not a project that was known before"):
        project_identity.adopt(directory(tmp_path / "fresh"), home)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"id": 3}', '{"id": "x", "claim": "", "root": ""}'])
def test_a_damaged_record_is_an_error_not_a_new_project(home: HomeLayout, tmp_path: Path, content: str) -> None:
    root = directory(tmp_path / "p")
    made = project_identity.ensure(root, home)
    record = made.layout(home).place
    record.write_text(content)
    with pytest.raises(VmctlError, match="is damaged") as caught:
        project_identity.ensure(root, home)
    assert caught.value.hint == f"mv -- {record} {record}.damaged"


def test_a_project_that_can_not_be_written_is_one_as_well(home: HomeLayout, tmp_path: Path) -> None:
    root = directory(tmp_path / "p")
    (root / ".vmctl").mkdir()
    (root / ".vmctl" / "project.json").mkdir()
    with pytest.raises(IsADirectoryError):
        project_identity.ensure(root, home)
    (root / ".vmctl" / "project.json").rmdir()
    assert project_identity.ensure(root, home).id == found(root, home)


@pytest.mark.parametrize("kind", ["the other's id", "with its own proof"])
def test_a_strangers_directory_does_not_become_ours_by_adopt_either(
    home: HomeLayout, tmp_path: Path, kind: str
) -> None:
    own, other = (project_identity.ensure(directory(tmp_path / name), home) for name in ("p", "victim"))
    stranger = directory(tmp_path / "stranger")
    (stranger / ".vmctl").mkdir()
    claim(stranger).write_text(forged(own, other, kind))
    with pytest.raises(UsageError, match="is not a project that was known before"):
        project_identity.adopt(stranger, home)
    assert found(tmp_path / "victim", home) == other.id


@pytest.mark.parametrize("kind", ["endless", "fifo", "directory", "deep", "null"])
def test_a_claim_that_makes_no_sense_is_none_at_once(home: HomeLayout, tmp_path: Path, kind: str) -> None:
    root = directory(tmp_path / "p")
    made = project_identity.ensure(root, home)
    place = claim(root)
    place.unlink()
    match kind:
        case "endless":
            with place.open("wb") as stream:
                stream.truncate(2**40)
        case "fifo":
            os.mkfifo(place)
        case "directory":
            place.mkdir()
        case "deep":
            place.write_text("[" * 4000)
        case "null":
            place.write_text("null")
    assert found(root, home) == made.id
    assert project_identity.find(directory(tmp_path / "q"), home) is None
