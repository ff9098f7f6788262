from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from vmctl.errors import UsageError
from vmctl.provision import inputs, requirements

TEXT = """\
roles:
  - src: ../role
  - {src: https://example.org/role.tar.gz, name: far}
  - author.role
collections:
  - ../packed.tar.gz
  - {name: acme.tools, source: ../tree, type: dir}
  - community.general
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("role/tasks/main.yml", "role/.git/HEAD", "packed.tar.gz", "tree/galaxy.yml", "ops/requirements.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "ops" / "requirements.yml").write_text(TEXT)
    return tmp_path / "ops" / "requirements.yml"


def test_what_lies_on_this_host_is_found_from_the_files_directory(file: Path) -> None:
    found = [path.resolve().name for path in requirements.read(file).local()]
    assert found == ["role", "packed.tar.gz", "tree"]


def test_directories_of_roles_are_packed_and_paths_made_absolute(file: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    stated = requirements.read(file).written_for_galaxy(scratch)
    assert stated["roles"] == [
        {"src": str(scratch / "0.tar.gz"), "name": "role"},
        {"src": "https://example.org/role.tar.gz", "name": "far"},
        {"src": "author.role"},
    ]
    with tarfile.open(scratch / "0.tar.gz") as archive:
        assert sorted(archive.getnames()) == ["role", "role/meta/main.yml", "role/tasks", "role/tasks/main.yml"]
    one, other, far = stated["collections"]
    assert (Path(one["name"]).resolve(), one["type"]) == (tmp_path / "packed.tar.gz", "file")
    assert (Path(other["source"]).resolve(), other["type"]) == (tmp_path / "tree", "dir")
    assert far == {"name": "community.general"}


def test_the_old_form_is_a_list_of_roles(file: Path) -> None:
    file.write_text("- src: author.role\n  version: 1.0\n")
    assert requirements.read(file).roles == ({"src": "author.role", "version": 1.0},)


@pytest.mark.parametrize("text", ["just text", "a: [", "\x00"])
def test_what_is_no_such_file_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError):
        requirements.read(file)
    assert inputs.requirements_digest(file)


def test_a_change_of_the_file_or_of_what_it_names_is_another_state(file: Path, tmp_path: Path) -> None:
    states = {inputs.requirements_digest(file)}
    (tmp_path / "tree" / "galaxy.yml").write_text("other")
    states.add(inputs.requirements_digest(file))
    (tmp_path / "role" / "tasks" / "main.yml").write_text("other")
    states.add(inputs.requirements_digest(file))
    file.write_text("roles: []\n")
    states.add(inputs.requirements_digest(file))
    assert len(states) == 4


def test_all_that_is_installed_of_a_role_of_this_host_is_another_state(file: Path) -> None:
    states = {inputs.requirements_digest(file)}
    modules = file.parent.parent / "role" / "files" / "node_modules"
    (modules / "empty").mkdir(parents=True)
    states.add(inputs.requirements_digest(file))
    (modules / "x.js").write_text("1")
    states.add(inputs.requirements_digest(file))
    assert len(states) == 3
    (file.parent.parent / "role" / ".git" / "index").write_text("y")
    (file.parent.parent / "role" / "tasks" / "main.pyc").write_text("y")
    assert inputs.requirements_digest(file) in states
