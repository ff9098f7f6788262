"""Layers on fake machines: what runs again after which change, seen by what the provisioners wrote."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.harness import Project, Ran, make_box
from vmctl import folders, registry
from vmctl.driver import Features, Host
from vmctl.errors import Unreachable, VmctlError
from vmctl.layout import HomeLayout, user_vmfile
from vmctl.lifecycle import layer_cache, layering
from vmctl.powers import Layer
from vmctl.provision import layer_keys, unkeyable
from vmctl.spec import FolderKind
from vmctl.store import hypervisors
from vmctl.testing import FakeDriver
from vmctl.testing.fake_machines import FakeMachines

VMCTL = Path(sys.executable).with_name("vmctl")

ENTRY = "  - {{name: {0}, shell: {{inline: 'echo {1} >> {2}', become: false}}{3}}}\n"


@pytest.fixture
def seeded(project: Project) -> Project:
    """A project whose box takes vmctl's own seed, so that it becomes somebody else on a layer."""
    make_box(project.home, "seeded", seeding="vmctl")
    return project


class Chain:
    """Three scripts that say what they are in a log; each text and each further key can be changed."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.log = project.root.parent / "log"
        self.texts = {"one": "one", "two": "two", "three": "three"}
        self.more = {"one": "", "two": "", "three": ""}
        self.head = ""

    def write(self) -> None:
        entries = "".join(ENTRY.format(name, text, self.log, self.more[name]) for name, text in self.texts.items())
        self.project.vmfile(f"box: seeded\n{self.head}provision:\n{entries}")
        text = (self.project.root / "Vmfile").read_text().replace("box: tiny\n", "", 1)
        (self.project.root / "Vmfile").write_text(text)

    def again(self, *words: str) -> list[str]:
        """What ran after the machine was destroyed and made again."""
        self.write()
        self.project.vmctl("destroy", "--yes")
        return self.up(*words)

    def up(self, *words: str, status: int = 0) -> list[str]:
        self.write()
        self.log.write_text("")
        self.project.vmctl("up", *words, status=status)
        return self.log.read_text().split()


@pytest.fixture
def chain(seeded: Project) -> Chain:
    return Chain(seeded)


def layers(project: Project) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = project.vmctl("cache", "list", "--json").answer["layers"]
    return found


def steps(ran: Ran, name: str) -> list[str]:
    return [row["text"] for row in ran.events("step-started") if row["step"] == name]


def test_an_unchanged_project_runs_nothing_again(chain: Chain) -> None:
    assert chain.up() == ["one", "two", "three"]
    assert sorted(len(row["provisioners"]) for row in layers(chain.project)) == [1, 2, 3]
    assert chain.again() == []
    assert chain.project.vmctl("up").out == "default is up; nothing to do\n"
    assert len(layers(chain.project)) == len(chain.texts)


def test_what_costs_a_copy_is_made_only_where_it_saves_more(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    copying = Features(formats=("qcow2",), folders=(), copies_layers=True)
    monkeypatch.setattr(FakeDriver, "features", copying)
    clock = SimpleNamespace(time=time.time, monotonic=lambda: 20.0 * chain.log.read_text().count("slept"))
    monkeypatch.setattr(layering, "time", clock)
    chain.up()
    assert layers(chain.project) == []
    chain.texts["two"] = f"two >>{chain.log}; echo slept"
    assert chain.again() == ["one", "two", "slept", "three"]
    assert [row["provisioners"] for row in layers(chain.project)] == [["one", "two"]]
    assert chain.again() == ["three"]


def test_a_change_runs_from_there_on_and_going_back_is_free(chain: Chain) -> None:
    chain.up()
    chain.texts["two"] = "other"
    assert chain.again() == ["other", "three"]
    chain.texts["two"] = "two"
    assert chain.again() == []
    chain.texts["three"] = "more"
    assert chain.again() == ["more"]
    chain.head = "cpus: 1\n"
    assert chain.again() == ["one", "two", "more"]


def test_set_reaches_the_keys_of_what_uses_it(chain: Chain) -> None:
    chain.head = "vars: {word: a}\n"
    chain.texts["two"] = "{{ vars.word }}"
    assert chain.up() == ["one", "a", "three"]
    chain.project.vmctl("destroy", "--yes")
    chain.log.write_text("")
    chain.project.vmctl("--set", "word=b", "up")
    assert chain.log.read_text().split() == ["b", "three"]
    assert chain.again() == []


def test_what_runs_always_ends_the_chain(chain: Chain) -> None:
    chain.more["two"] = ", run: always"
    chain.up()
    assert len(layers(chain.project)) == 1
    assert chain.again() == ["two", "three"]


def test_what_is_sensitive_is_in_no_layer(chain: Chain) -> None:
    chain.more["three"] = ", sensitive: true"
    chain.up()
    assert chain.again() == ["three"]


def test_a_failure_leaves_the_layers_before_it_alone(chain: Chain) -> None:
    chain.texts["two"] = "failed && false #"
    assert chain.up(status=4) == ["one"]
    assert len(layers(chain.project)) == 1
    chain.texts["two"] = "two"
    assert chain.up() == ["two", "three"], "the machine that is there goes on"
    assert len(layers(chain.project)) == 1, "and nothing that may have been done in it by hand gets into a layer"
    assert chain.again() == ["two", "three"]
    assert chain.again() == []


def test_cold_neither_takes_nor_leaves_layers(chain: Chain) -> None:
    assert chain.up("--cold") == ["one", "two", "three"]
    assert layers(chain.project) == []
    chain.again()
    assert chain.again("--cold") == ["one", "two", "three"]


@pytest.mark.parametrize("words", [("--provision",), ("--only", "two"), ("--no-provision",)])
def test_who_says_what_is_to_run_gets_just_that(chain: Chain, words: tuple[str, ...]) -> None:
    chain.up()
    expected = {"--provision": ["one", "two", "three"], "--only": ["two"], "--no-provision": []}
    assert chain.again(*words) == expected[words[0]]
    assert len(layers(chain.project)) == len(chain.texts)


def test_machines_of_one_key_share_a_layer_across_projects(chain: Chain, tmp_path: Path) -> None:
    chain.up()
    other = Project(tmp_path / "second", chain.project.home)
    other.root.mkdir()
    (other.root / "Vmfile").write_text((chain.project.root / "Vmfile").read_text())
    chain.log.write_text("")
    assert "creating from layer 3 of 3 on seeded" in steps(other.vmctl("up", "--json"), "create")
    assert chain.log.read_text() == ""


def test_a_layer_that_goes_meanwhile_is_no_failure(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.up()
    chain.project.vmctl("destroy", "--yes")
    from vmctl.lifecycle import layering

    find = layering.possible

    def gone(*args: Any) -> Any:
        found = find(*args)
        with machines(chain.project).open() as content:
            content.layers.clear()
        return found

    monkeypatch.setattr(layering, "possible", gone)
    chain.log.write_text("")
    ran = chain.project.vmctl("up")
    assert chain.log.read_text().split() == ["one", "two", "three"]
    assert "it is made from its box" in ran.err


def test_a_freeze_that_fails_is_a_warning_and_ends_the_chain(chain: Chain) -> None:
    chain.write()
    (chain.project.root / "Vmfile").write_text(
        (chain.project.root / "Vmfile").read_text() + "fakeguests: {fail: {freeze: no room}}\n"
    )
    ran = chain.project.vmctl("up")
    assert ran.err.count("no layer was made: no room") == 1
    assert layers(chain.project) == []


@pytest.mark.parametrize("error", [OSError("the disk is gone"), VmctlError("the disk is gone")])
def test_a_key_that_cannot_be_told_any_more_is_a_warning(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    why = unkeyable.why

    def failing(*args: Any, **options: Any) -> str:
        if chain.log.read_text():
            raise error
        return why(*args, **options)

    monkeypatch.setattr(unkeyable, "why", failing)
    chain.write()
    chain.log.write_text("")
    ran = chain.project.vmctl("up")
    assert chain.log.read_text().split() == ["one", "two", "three"]
    assert ran.err.count("no layer was made: the disk is gone") == 1
    assert layers(chain.project) == []


def test_what_changes_while_it_runs_gets_no_layer(chain: Chain) -> None:
    chain.write()
    script = chain.project.root / "change.sh"
    script.write_text(f"#!/bin/sh\necho '# x' >>{script}\n")
    vmfile = chain.project.root / "Vmfile"
    vmfile.write_text(vmfile.read_text() + "  - {name: four, shell: {script: change.sh, become: false}}\n")
    ran = chain.project.vmctl("up")
    assert "no layer was made: what goes into four changed while it ran" in ran.err
    assert len(layers(chain.project)) == len(chain.texts)


def test_each_provisioner_is_looked_at_once_more_after_it_ran(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    following = layer_keys.following

    def noting(before: str, item: Any, surroundings: Any) -> tuple[str, str]:
        looked.append(item.name)
        return following(before, item, surroundings)

    monkeypatch.setattr(layer_keys, "following", noting)
    chain.up()
    assert looked[-3:] == ["one", "two", "three"]
    assert looked.count("one") == looked.count("three")


@pytest.mark.parametrize("step", ["layers", "create", "freeze"])
def test_a_vmctl_that_is_killed_loses_nothing_and_makes_no_false_layer(chain: Chain, step: str) -> None:
    chain.up()
    chain.project.vmctl("destroy", "--yes")
    chain.texts["three"] = "other"
    chain.write()
    driver = FakeDriver(Host(home=chain.project.home), directory=chain.project.home / "fake")
    driver.fail(step, "kill")
    dead = subprocess.run([VMCTL, "-C", chain.project.root, "up"], check=False, capture_output=True)
    assert dead.returncode == -signal.SIGKILL
    driver.mend()
    chain.log.write_text("")
    chain.project.vmctl("up")
    ran = chain.log.read_text().split()
    assert ran == ([] if step == "freeze" else ["other"]), "what was recorded as done was done"
    expected = {("one",), ("one", "two"), ("one", "two", "three")}
    assert {tuple(row["provisioners"] or "?") for row in layers(chain.project)} == expected
    assert chain.again() == (["other"] if step == "freeze" else [])
    assert chain.again() == []


def test_plan_tells_how_far_layers_go_and_why_no_further(chain: Chain) -> None:
    chain.write()
    assert "  layers: none yet; 3 to be made\n" in chain.project.vmctl("plan").out
    chain.up()
    chain.project.vmctl("destroy", "--yes")
    assert "  from layer 3 of 3" in chain.project.vmctl("plan").out
    chain.more["two"] = ", run: always"
    chain.write()
    out = chain.project.vmctl("plan").out
    assert "  from layer 1 of 1" in out
    assert "  no layers from two on: it runs at each `up` (run: always)\n" in out
    assert "  provision: two, three\n" in out
    (row,) = chain.project.vmctl("plan", "--json").answer["machines"]
    assert (row["layer"]["number"], row["layer"]["ended_by"]) == (1, "two")
    chain.project.vmfile("provision: [{name: one, shell: {inline: 'true', become: false}}]\n")
    assert "  no layers: its box is not one that vmctl seeds itself" in chain.project.vmctl("plan").out


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("triggers: [{name: x, after: up, run: ['true']}]\n", "triggers"),
        ("triggers: [{name: x, before: provision, run: ['true']}]\n", "triggers"),
        ("triggers: [{name: x, after: provision, run: ['true']}]\n", "triggers run after the provisioners"),
    ],
)
def test_what_changes_the_disk_besides_forbids_layers(chain: Chain, head: str, reason: str) -> None:
    chain.head = head
    chain.write()
    assert reason in chain.project.vmctl("plan").out


@pytest.mark.parametrize(("kinds", "entry"), [((), ", type: rsync"), (("vboxsf",), "")])
def test_a_folder_that_is_copied_has_layers_as_well(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, kinds: tuple[FolderKind, ...], entry: str
) -> None:
    copied: list[str] = []

    def attach(*_args: Any, **_more: Any) -> dict[str, str]:
        copied.append("/project")
        return {"/project": "rsync"}

    monkeypatch.setattr(FakeDriver, "features", Features(formats=("qcow2",), folders=kinds))
    monkeypatch.setattr(FakeDriver, "check", lambda *_: None)
    monkeypatch.setattr(folders, "attach", attach)
    chain.head = f"synced_folders: [{{host: ., guest: /project{entry}}}]\n"
    assert chain.up() == ["one", "two", "three"]
    copied.clear()
    assert chain.again() == []
    assert copied == ["/project"], "what the layer has of it is brought up to date"
    for change in (", exclude: [x]", ", read_only: true"):
        chain.head = f"synced_folders: [{{host: ., guest: /project{entry}{change}}}]\n"
        assert chain.again() == ["one", "two", "three"]
    chain.texts["two"] = "two /project"
    assert chain.again() == ["two", "/project", "three"]
    assert chain.again() == ["two", "/project", "three"], "what uses the copy has no layer"


def test_layers_are_listed_and_removed_unless_in_use(chain: Chain) -> None:
    chain.up()
    rows = layers(chain.project)
    assert {row["machine"] for row in rows} == {"default"}
    listed = chain.project.vmctl("cache", "list").out
    assert "default" in listed
    assert "just now" in listed
    assert chain.project.vmctl("cache", "du", "--json").answer["bytes"] == len(rows)
    assert chain.project.vmctl("cache", "prune", "--all", "--json").answer["removed"] == []
    chain.project.vmctl("destroy", "--yes")
    assert chain.project.vmctl("cache", "prune", "--json").answer["removed"] == []
    assert len(chain.project.vmctl("cache", "prune", "--all", "--json").answer["removed"]) == len(rows)
    assert layers(chain.project) == []
    assert json.loads(HomeLayout(chain.project.home).layers.read_text())["layers"] == {}


def test_the_budget_keeps_what_was_used_last(chain: Chain) -> None:
    user_vmfile().parent.mkdir(parents=True, exist_ok=True)
    user_vmfile().write_text("cache: {size: 4B}\n")
    chain.up()
    chain.texts = {"one": "1", "two": "2", "three": "3"}
    chain.again()
    names = {tuple(row["provisioners"]) for row in layers(chain.project)}
    assert len(layers(chain.project)) == 4
    assert ("one", "two", "three") in names
    assert chain.again() == [], "those of the machine that was there last are all kept"
    user_vmfile().write_text("cache: {size: 0}\n")
    assert chain.again() == ["1", "2", "3"]


def test_a_budget_belongs_to_the_user(project: Project) -> None:
    project.vmfile("cache: {size: 1GiB}\n")
    assert "your own Vmfile" in project.vmctl("validate", status=2).err


def machines(project: Project) -> FakeMachines:
    return FakeMachines(project.home / "fake" / "machines.json")


def test_machines_of_one_count_share_layers_until_names_matter(chain: Chain) -> None:
    chain.head = "machines: {web: {count: 2}}\n"
    assert chain.up("web-1") == ["one", "two", "three"]
    assert chain.up("web-2") == []
    chain.texts["two"] = "two $(: hostname)"
    chain.project.vmctl("destroy", "--yes")
    assert chain.up("web-1") == ["two", "three"]
    assert chain.up("web-2") == ["two", "three"]


def test_hypervisors_of_other_hosts_are_remembered_until_nothing_is_left_there(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = {"lab": [Layer(key="f" * 64, size=9)]}
    load = registry._load

    class OfSeveral(load("fakeguests")):  # type: ignore[misc]  # a class of its own: Python remembers what it can do
        @property
        def where(self) -> str:
            return self.host.where or str(self.host.options.get("server", "fake"))

        def box_copies(self) -> tuple[Layer, ...]:
            if self.where == "gone":
                raise Unreachable("nobody answers at gone")
            return tuple(copies.get(self.where, ()))

        def remove_box_copy(self, _key: str) -> bool:
            copies[self.where] = []
            return True

    monkeypatch.setattr(registry, "_load", lambda name: OfSeveral if name == "fakeguests" else load(name))
    assert project.vmctl("cache", "list", "--json").answer["boxes"] == [], "no project has named it yet"
    project.vmfile("fakeguests: {server: lab}\n")
    project.vmctl("up")
    known = HomeLayout(project.home).hypervisors
    assert [one["where"] for one in json.loads(known.read_text())["hypervisors"]] == ["lab"]
    project.vmctl("destroy", "--yes")
    hypervisors.remember(HomeLayout(project.home), "fakeguests", "gone")
    hypervisors.remember(HomeLayout(project.home), "no-provider", "anywhere")
    ran = project.vmctl("cache", "list", "--json")
    assert [one["bytes"] for one in ran.answer["boxes"]] == [9]
    assert "nobody answers at gone; what gone keeps is left out" in ran.err
    assert "no provider 'no-provider' is installed" in ran.err
    assert project.vmctl("cache", "du", "--json").answer["bytes"] == 9
    ran = project.vmctl("cache", "prune", "--all", "--json")
    assert ran.answer["removed"] == ["f" * 64]
    assert [one["where"] for one in json.loads(known.read_text())["hypervisors"]] == ["gone", "anywhere"]


def test_a_hypervisor_with_machines_is_not_forgotten(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    home = HomeLayout(project.home)
    for damage in (False, True):
        if damage:
            (project.layout.machine("default").record).write_text("{")
        project.vmctl("cache", "prune", "--all")
        assert [one.place for one in hypervisors.read(home)] == [("fakeguests", "fake")]


def test_one_of_an_older_vmctl_is_remembered_when_its_machine_goes(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    home = HomeLayout(project.home)
    home.hypervisors.unlink()
    project.vmctl("destroy", "--yes")
    assert [one.place for one in hypervisors.read(home)] == [("fakeguests", "fake")]
    project.vmctl("cache", "prune")
    assert hypervisors.read(home) == ()


def test_a_cache_that_cannot_be_pruned_is_no_reason_for_up_to_fail(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_words: Any, **_more: Any) -> list[Layer]:
        raise PermissionError(errno.EPERM, "Operation not permitted", "memories/key")

    monkeypatch.setattr(layer_cache, "prune", refused)
    chain.write()
    ran = chain.project.vmctl("up")
    assert "layers could not be removed: [Errno 1] Operation not permitted: 'memories/key'" in ran.err
    assert len(layers(chain.project)) == len(chain.texts)
