from pathlib import Path

import pytest

from vmctl import machine_names
from vmctl.errors import UsageError
from vmctl.layout import HomeLayout
from vmctl.store import project_identity

PROJECT = "0123456789abcdef0123456789abcdef"
KNOWN = ("web-1", "web-2", "db")


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("shop", "shop-web-01234567"),
        ("My Shop (2)", "my-shop-2-web-01234567"),
        ("...", "project-web-01234567"),
        ("Überlänge", "berl-nge-web-01234567"),
        ("a" * 60, "a" * 24 + "-web-01234567"),
    ],
)
def test_hypervisor_names_are_plain(directory: str, name: str) -> None:
    assert machine_names.hypervisor_name(Path("/home/x") / directory, "web", PROJECT) == name


def test_nothing_wanted_means_all() -> None:
    assert machine_names.select(KNOWN, []) == KNOWN


def test_names_and_globs_keep_the_files_order() -> None:
    assert machine_names.select(KNOWN, ["db", "web-*"]) == KNOWN
    assert machine_names.select(KNOWN, ["*-2"]) == ("web-2",)


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="no machine matches 'wbe-1', did you mean 'web-1'") as caught:
        machine_names.select(KNOWN, ["wbe-1"])
    assert "web-1, web-2, db" in caught.value.hint


def test_ids_find_machines_of_any_project(tmp_path: Path) -> None:
    home, root = HomeLayout(tmp_path / "data"), tmp_path / "p"
    root.mkdir()
    place = project_identity.ensure(root, home)
    project, layout = place.id, place.layout(home)
    layout.machine("web").root.mkdir(parents=True)
    wanted = machine_names.short_id(project, "web")
    assert machine_names.find_by_id(home, wanted) == (root, "web")
    assert machine_names.find_by_id(home, wanted[:5]) == (root, "web")
    assert machine_names.find_by_id(home, "0000000" if wanted[0] != "0" else "1111111") is None
    assert machine_names.find_by_id(home, "web") is None
