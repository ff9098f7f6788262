import shutil
import stat
from pathlib import Path

import pytest

from vmctl.errors import VmctlError
from vmctl.layout import HomeLayout
from vmctl.store import identity


def test_made_once_private_and_out_of_version_control(tmp_path: Path) -> None:
    home, root = HomeLayout(tmp_path / "data"), tmp_path / "p"
    root.mkdir()
    layout = identity.project_layout(root)
    assert identity.read(layout) is None
    made = identity.ensure(layout, home)
    assert identity.ensure(layout, home) == made == identity.read(layout)
    assert stat.S_IMODE(layout.root.stat().st_mode) == 0o700
    assert layout.gitignore.read_text() == "*\n"
    assert identity.index(home) == {made: str(root)}


def test_a_moved_project_keeps_its_id(tmp_path: Path) -> None:
    home, old, new = HomeLayout(tmp_path / "data"), tmp_path / "old", tmp_path / "new"
    old.mkdir()
    made = identity.ensure(identity.project_layout(old), home)
    old.rename(new)
    assert identity.ensure(identity.project_layout(new), home) == made
    assert identity.index(home) == {made: str(new)}


def test_a_copy_is_refused_until_it_has_its_own_identity(tmp_path: Path) -> None:
    home, old, new = HomeLayout(tmp_path / "data"), tmp_path / "old", tmp_path / "new"
    old.mkdir()
    made = identity.ensure(identity.project_layout(old), home)
    shutil.copytree(old, new)
    with pytest.raises(VmctlError, match="is a copy of") as caught:
        identity.ensure(identity.project_layout(new), home)
    assert caught.value.hint.startswith(f"rm -r '{new}/.vmctl'")
    shutil.rmtree(new / ".vmctl")
    assert identity.ensure(identity.project_layout(new), home) != made


def test_a_damaged_identity_is_an_error_not_a_new_project(tmp_path: Path) -> None:
    layout = identity.project_layout(tmp_path)
    layout.root.mkdir()
    layout.id_file.write_text("{}")
    with pytest.raises(VmctlError, match="is damaged"):
        identity.ensure(layout, HomeLayout(tmp_path / "data"))


@pytest.mark.parametrize("content", ["[3]", '{"a": 1}', '"x"'])
def test_a_damaged_index_is_an_error(tmp_path: Path, content: str) -> None:
    home = HomeLayout(tmp_path)
    home.projects.write_text(content)
    with pytest.raises(VmctlError, match="is damaged"):
        identity.index(home)
