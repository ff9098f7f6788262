"""Whatever lies in the place of one of vmctl's files, nothing outside its directories is read, written or removed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import Project
from vmctl.layout import HomeLayout, MachineLayout, ProjectLayout, TreeLayout

OTHERS = "this is not vmctl's\n"
COMMANDS = (
    ("up",), ("status",), ("list",), ("logs",), ("ssh-config",), ("history",), ("provision",), ("box", "list"),
    ("halt",), ("up",), ("destroy", "--yes"),
)  # fmt: skip
OF_FAKE_GUESTS = ("fake", "hosts")
VMFILE = "provision: [{shell: {inline: 'true', become: false}, name: note}]\n"


def properties(layout: type) -> list[str]:
    return sorted(name for name, value in vars(layout).items() if isinstance(value, property) and name != "tree")


PLACES = [
    (layout, name) for layout in (HomeLayout, ProjectLayout, MachineLayout, TreeLayout) for name in properties(layout)
]


def test_all_places_are_tried() -> None:
    assert {
        (HomeLayout, "ports"),
        (ProjectLayout, "history"),
        (MachineLayout, "console"),
        (TreeLayout, "claim"),
    } <= set(PLACES)


def place(project: Project, layout: type, name: str) -> Path:
    of_project = project.layout
    made = (HomeLayout(project.home), of_project, of_project.machine("default"), of_project.tree)
    path: Path = getattr(next(one for one in made if isinstance(one, layout)), name)
    return path


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file and a directory with a file in it, which no command may touch."""
    directory = tmp_path / "outside"
    (directory / "inner").mkdir(parents=True)
    for path in (directory / "file", directory / "inner/file", directory / "inner/default"):
        path.write_text(OTHERS)
        os.utime(path, (1, 1))
    return directory


def seen(directory: Path) -> dict[str, tuple[str, float, int]]:
    """All of it: names, content, times of change, modes."""
    return {
        str(path.relative_to(directory)): (
            path.read_text() if path.is_file() else "", path.stat().st_mtime, stat.S_IMODE(path.stat().st_mode)
        )
        for path in sorted([directory, *directory.rglob("*")])
    }  # fmt: skip


@pytest.mark.parametrize(("layout", "name"), PLACES, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("target", ["there", "absent"])
def test_a_link_in_the_place_of_a_file_leads_nowhere(
    project: Project, outside: Path, layout: type, name: str, target: str
) -> None:
    project.vmfile(VMFILE)
    project.vmctl("up")
    path = place(project, layout, name)
    if target == "there":
        target = "inner" if path.is_dir() else "file"
    before = seen(outside)
    if path.is_symlink() or path.exists():
        path.rename(path.with_name(f"{path.name}.aside"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(outside / target)
    for words in COMMANDS if target != "absent" else (("up",), ("provision",), ("destroy", "--yes")):
        ran = project.vmctl(*words, status=None)
        assert "internal error" not in ran.err + ran.out, words
        assert OTHERS not in ran.err + ran.out, words
        assert seen(outside) == before, words


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_without_a_umask_nobody_else_may_read_or_write_what_vmctl_made(project: Project) -> None:
    made_by_the_test = set(project.home.rglob("*"))
    project.vmfile(VMFILE)
    (project.root / "Vmfile").chmod(0o644)
    project.root.chmod(0o755)
    for words in COMMANDS[:-1]:
        project.vmctl(*words, status=3 if words == ("logs",) else 0)  # fake machines have no console
    mine = [path for path in project.home.rglob("*") if path not in made_by_the_test and not path.is_symlink()]
    found = [path for path in mine if path.relative_to(project.home).parts[0] not in OF_FAKE_GUESTS]
    machine = project.layout.machine("default")
    assert {machine.key, machine.record, machine.journal, project.layout.place, HomeLayout(project.home).log} <= set(
        found
    )
    open_to_others = {
        str(path.relative_to(project.home)): oct(path.stat().st_mode)
        for path in found
        if path.stat().st_mode & (0o022 if path.suffix == ".pub" else 0o077)
    }
    assert open_to_others == {}
    tree = [project.root / ".vmctl", *(project.root / ".vmctl").rglob("*")]
    assert [path for path in tree if path.lstat().st_mode & 0o022 and not path.is_symlink()] == []
