from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from msgspec import structs

from vmctl.provision import inputs
from vmctl.spec import Ansible, File, Provisioner, Shell, SourceLocation


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose playbook lies one directory down."""
    write(tmp_path / "Vmfile")
    write(tmp_path / "ops" / "site.yml")
    return tmp_path


def of(project: Path, **options: Any) -> str:
    return inputs.digest(Ansible(name="site", playbook=project / "ops" / "site.yml", **options))


COUNTS = [
    "ops/site.yml", "ops/other.yml", "ops/roles/a/tasks/main.yml", "ops/group_vars/all.yml", "ops/host_vars/web.yml",
    "ops/templates/x.j2", "ops/files/deep/er/x", "ops/ansible.cfg", "ops/requirements.yml", "roles/a/meta/main.yml",
    "group_vars/all/secret", "ops/vars_plugins/x.py", "ops/strategy_plugins/x.py", "ansible.cfg", "requirements.yml",
    "collections/ansible_collections/a/b/galaxy.yml",
]  # fmt: skip
DOES_NOT = ["ops/notes.txt", "docker-compose.yml", "src/main.c", "ops/roles/a/__pycache__/x.pyc", "ops/roles/.git/HEAD"]


@pytest.mark.parametrize("name", COUNTS)
def test_what_a_playbook_reads_counts(project: Path, name: str) -> None:
    (project / name).unlink(missing_ok=True)
    without = of(project)
    write(project / name, "one")
    with_one = of(project)
    write(project / name, "two")
    assert len({without, with_one, of(project)}) == 3


@pytest.mark.parametrize("name", DOES_NOT)
def test_what_it_does_not_read_does_not_count(project: Path, name: str) -> None:
    before = of(project)
    write(project / name)
    assert of(project) == before


def test_nothing_above_the_project_counts(project: Path) -> None:
    nested = project / "nested"
    write(nested / "Vmfile")
    write(nested / "ops" / "site.yml")
    before = of(nested)
    write(project / "roles" / "a" / "tasks" / "main.yml")
    assert of(nested) == before


def test_a_moved_project_and_touched_files_have_the_same_digest(project: Path, tmp_path: Path) -> None:
    write(project / "ops" / "roles" / "a" / "tasks" / "main.yml")
    before = of(project)
    os.utime(project / "ops" / "site.yml", (1, 1))
    assert of(project) == before
    moved = tmp_path.with_name("moved")
    project.rename(moved)
    assert of(moved) == before


def test_a_large_file_counts_by_size_and_time(project: Path) -> None:
    large = project / "ops" / "files" / "large"
    write(large)
    os.truncate(large, inputs.LARGE + 1)
    os.utime(large, (1, 1))
    before = of(project)
    os.utime(large, (2, 2))
    assert of(project) != before


def test_whether_a_file_is_executable_counts(project: Path) -> None:
    script = write(project / "ops" / "files" / "script")
    before = of(project)
    script.chmod(0o755)
    assert of(project) != before


def test_links_in_circles_broken_links_and_pipes_do_no_harm(project: Path) -> None:
    roles = project / "ops" / "roles"
    write(roles / "a" / "tasks" / "main.yml")
    (roles / "a" / "self").symlink_to(roles)
    (roles / "broken").symlink_to("nowhere")
    os.mkfifo(roles / "pipe")
    assert of(project) == of(project)


def test_linked_roles_are_followed(project: Path, tmp_path: Path) -> None:
    shared = write(tmp_path / "elsewhere" / "tasks" / "main.yml", "one")
    (project / "ops" / "roles").mkdir()
    (project / "ops" / "roles" / "shared").symlink_to(shared.parent.parent)
    before = of(project)
    shared.write_text("two")
    assert of(project) != before


def test_a_missing_playbook_has_a_digest_too(tmp_path: Path) -> None:
    item = Ansible(name="site", playbook=tmp_path / "none.yml")
    before = inputs.digest(item)
    write(item.playbook)
    assert inputs.digest(item) != before


@pytest.mark.parametrize(
    "options",
    [
        {"extra_vars": {"a": 1}}, {"extra_vars": {"a": "1"}}, {"extra_vars": {"a": {1: "x", "b": [None]}}},
        {"groups": {"g": ("web",)}}, {"become": True}, {"tags": ("a",)}, {"skip_tags": ("a",)},
    ],
)  # fmt: skip
def test_every_option_counts(project: Path, options: dict[str, Any]) -> None:
    assert of(project, **options) != of(project)


def test_order_of_variables_kind_of_mapping_and_place_do_not_count(project: Path) -> None:
    one = of(project, extra_vars={"a": 1, "b": 2}, place=SourceLocation(file="Vmfile", line=1))
    assert one == of(
        project, extra_vars=MappingProxyType({"b": 2, "a": 1}), place=SourceLocation(file="Vmfile", line=9)
    )


def test_how_much_ansible_says_and_when_it_runs_do_not_count(project: Path) -> None:
    assert of(project, verbosity=3, run="always") == of(project)


def test_everything_of_a_script_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.sh")
    item = Shell(name="a", script=path)
    digests = {
        inputs.digest(candidate)
        for candidate in (
            item, structs.replace(item, args=("a",)), structs.replace(item, args=("a", "")),
            structs.replace(item, env={"A": "b"}), structs.replace(item, become=False), Shell(name="a", inline="x"),
        )
    }  # fmt: skip
    path.write_text("y")
    assert len({*digests, inputs.digest(item)}) == 7


def spent(act: Callable[[], object]) -> float:
    """CPU seconds, the best of three."""
    found = []
    for _ in range(3):
        started = time.process_time()
        act()
        found.append(time.process_time() - started)
    return min(found)


def test_what_an_entry_names_counts_besides(tmp_path: Path) -> None:
    for name in ("app/a.txt", "app/deep/b.txt", "one"):
        write(tmp_path / name, name)
    several = (tmp_path / "app", tmp_path / "one")

    def of(**options: Any) -> str:
        return inputs.digest(Shell(name="x", inline="make", **options))

    first = of(inputs=several)
    assert first != of(inputs=()) != of()
    assert first == of(inputs=several[::-1])
    for name in ("app/a.txt", "app/deep/b.txt", "one", "app/new"):
        write(tmp_path / name, "other")
        first, before = of(inputs=several), first
        assert first != before, name
    write(tmp_path / "app" / "node_modules" / "x")
    assert first == of(inputs=several)


@pytest.mark.parametrize("kind", ["file", "inputs"])
def test_the_names_of_directories_count(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "app" / "one" / "x")
    item: Provisioner = File(name="x", source=tmp_path / "app", destination="/srv")
    if kind == "inputs":
        item = Shell(name="x", inline="make", inputs=(tmp_path / "app",))
    before = inputs.digest(item)
    (tmp_path / "app" / "one").rename(tmp_path / "app" / "two")
    assert inputs.digest(item) != before


def test_a_directory_is_not_the_file_that_is_in_it(tmp_path: Path) -> None:
    item = File(name="x", source=write(tmp_path / "app"), destination="/srv")
    before = inputs.digest(item)
    item.source.unlink()
    write(tmp_path / "app" / "app")
    assert inputs.digest(item) != before


def test_named_directories_that_change_places_count(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "app" / "x", name)
    item = Shell(name="x", inline="make", inputs=(tmp_path / "one" / "app", tmp_path / "two" / "app"))
    before = inputs.digest(item)
    (tmp_path / "one").rename(tmp_path / "three")
    (tmp_path / "two").rename(tmp_path / "one")
    (tmp_path / "three").rename(tmp_path / "two")
    assert inputs.digest(item) != before


def test_asking_costs_little_more_than_reading_the_files(project: Path) -> None:
    files = [
        write(project / "roles" / f"role{number}" / "tasks" / "main.yml", "- command: 'true'\n" * 20)
        for number in range(300)
    ]
    reading = spent(lambda: [hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert spent(lambda: of(project)) < 30 * reading
