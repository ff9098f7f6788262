"""A machine that exists is never made a second time, whatever became of vmctl's records and whoever has it."""

from __future__ import annotations

import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.cli.fake_guests import FakeGuests, OtherGuests
from tests.cli.harness import Project
from vmctl import registry
from vmctl.driver import Host

OTHER = EntryPoint(name="otherguests", value="fake_guests:OtherGuests", group=registry.GROUP)


@pytest.fixture
def two(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A host with two hypervisors, and a machine under the second one."""
    known = registry._entries
    monkeypatch.setattr(registry, "_entries", lambda: {**known(), "otherguests": OTHER})
    vmfile(project, "auto")
    project.vmctl("up", "--provider", "otherguests")
    return project


def vmfile(project: Project, provider: str) -> None:
    (project.root / "Vmfile").write_text(f"box: tiny\nprovider: {provider}\nsynced_folders: []\n")


def lose_records(project: Project) -> None:
    shutil.rmtree(project.layout.machines)


def machines(project: Project) -> list[list[str]]:
    """Names of the machines that each hypervisor has."""
    host = Host(home=project.home)
    return [sorted(driver.states()) for driver in (FakeGuests(host), OtherGuests(host))]


def test_a_machine_without_a_record_is_found_where_it_is(two: Project) -> None:
    before = machines(two)
    lose_records(two)
    ran = two.vmctl("up", status=1)
    assert "vmctl has lost its record of machine default" in ran.err
    assert f"hint: ls -la -- {two.home}/projects/" in ran.err
    assert machines(two) == before
    two.vmctl("destroy", "--yes", "default")
    assert machines(two) == [[], []]
    two.vmctl("up")


@pytest.mark.parametrize("command", ["up", "plan"])
def test_nor_is_it_made_under_the_provider_that_is_asked_for(two: Project, command: str) -> None:
    lose_records(two)
    before = machines(two)
    ran = two.vmctl(command, "--provider", "fakeguests", status=2)
    assert "exists under the provider 'otherguests', but --provider asks for 'fakeguests'" in ran.err
    vmfile(two, "fakeguests")
    assert "but Vmfile asks for 'fakeguests'" in two.vmctl(command, status=2).err
    assert machines(two) == before
    two.vmctl("destroy", "--yes")
    assert machines(two) == [[], []]


def make_again(project: Project) -> None:
    """As `rm -r` of the project, and a clone of it to the same place."""
    project.root.rename(project.root.with_name("aside"))
    project.root.mkdir()
    shutil.copy(project.root.with_name("aside") / "Vmfile", project.root)
    shutil.rmtree(project.root.with_name("aside"))


def test_a_project_keeps_its_machines_whatever_becomes_of_its_own_directory_of_state(two: Project) -> None:
    shutil.rmtree(two.root / ".vmctl")
    before = machines(two)
    assert two.states() == {"default": "running"}
    assert "nothing to do" in two.vmctl("up").out
    assert machines(two) == before
    assert (two.root / ".vmctl" / "project.json").exists()


@pytest.mark.parametrize("provider", ["fakeguests", "otherguests"])
def test_a_project_that_was_cloned_again_does_not_make_its_machines_again(two: Project, provider: str) -> None:
    make_again(two)
    before = machines(two)
    ran = two.vmctl("up", "--provider", provider, status=3)
    assert "machine default exists already: it belongs to a project that was in this directory before" in ran.err
    assert f"otherguests has it as {before[1][0]} (running)" in ran.err
    assert "hint: vmctl adopt " in ran.err
    assert machines(two) == before
    assert two.vmctl("adopt", "--json").answer["machines"] == ["default"]
    assert "nothing to do" in two.vmctl("up").out
    assert machines(two) == before


def test_a_lost_machine_is_removed_by_its_id_and_nothing_is_kept_of_it(two: Project) -> None:
    state = two.layout.machine("default").root
    make_again(two)
    (row,) = [row for row in two.vmctl("list", "--json").answer["machines"] if row["lost"]]
    before = machines(two)
    assert "made in" in two.vmctl("destroy", row["id"], status=2).err  # nobody to ask
    assert (machines(two), state.exists()) == (before, True)
    assert f"destroyed: default ({before[1][0]}" in two.vmctl("destroy", "--yes", row["id"]).out
    assert (machines(two), state.exists()) == ([[], []], False)
    two.vmctl("up")


def test_a_project_that_was_moved_leaves_its_old_place_free(two: Project, tmp_path: Path) -> None:
    moved = Project(tmp_path / "moved", two.home)
    two.root.rename(moved.root)
    two.root.mkdir()
    vmfile(two, "fakeguests")
    assert "run `vmctl up` in its new directory first" in two.vmctl("up", status=3).err
    moved.vmctl("up")
    two.vmctl("up")
    assert [len(names) for names in machines(two)] == [1, 1]


def test_another_users_machine_is_not_lost(two: Project) -> None:
    (row,) = two.vmctl("list", "--json").answer["machines"]
    shutil.rmtree(two.home / "projects")
    ran = two.vmctl("destroy", "--yes", row["id"], status=2)
    assert "belongs to a project that vmctl does not know here" in ran.err
    assert machines(two)[1] != []
    two.vmctl("up", "--provider", "fakeguests")


def test_a_provider_that_can_not_be_asked_is_told_of(two: Project) -> None:
    two.vmctl("destroy", "--yes")
    OtherGuests(Host(home=two.home)).fail("states", "the daemon sleeps")
    ran = two.vmctl("up", "--provider", "fakeguests")
    assert "otherguests could not be asked whether it has machines of this project: the daemon sleeps" in ran.err
    assert "otherguests" not in two.vmctl("up").err  # it has a record now


def test_a_provider_that_can_not_be_used_now_is_asked_as_well(two: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_records(two)
    monkeypatch.setattr(OTHER.load(), "usable", lambda _self: "its kernel module is not loaded")
    ran = two.vmctl("up", "--provider", "fakeguests", status=2)
    assert "exists under the provider 'otherguests'" in ran.err
    OtherGuests(Host(home=two.home)).fail("states", "the daemon sleeps")
    assert "sleeps" not in two.vmctl("up", "--provider", "fakeguests").err


def test_a_vmfile_that_names_another_provider_locks_nobody_out(two: Project) -> None:
    vmfile(two, "fakeguests")
    assert two.states() == {"default": "running"}
    two.vmctl("ssh", "-c", "true")
    two.vmctl("halt")
    two.vmctl("up", status=2)
    two.vmctl("destroy", "--yes")
    assert machines(two) == [[], []]
    two.vmctl("up")
