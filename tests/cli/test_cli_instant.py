"""Instant machines on fake machines: when memory is kept and gone on from, and what becomes of it else."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import Project, Ran, make_box
from vmctl import interrupt, registry, ssh
from vmctl.errors import WrongState
from vmctl.lifecycle import quiescing

MEMORY = EntryPoint(name="fakeguests", value="fake_guests:MemoryGuests", group=registry.GROUP)
HEAD = "box: seeded\nprovider: fakeguests\ninstant: true\n"


@pytest.fixture
def instant(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Project:
    """A project whose provider keeps memory. Its guests are this host, where nothing may be unmounted or stopped."""
    monkeypatch.setattr(registry, "_entries", lambda: {"fakeguests": MEMORY})
    quiesce = tmp_path / "quiesce.sh"
    quiesce.write_text("echo quiet perl\n")
    monkeypatch.setattr(quiescing, "QUIESCE", quiesce)
    make_box(project.home, "seeded", seeding="vmctl")
    write(project)
    return project


def write(project: Project, *, head: str = HEAD, text: str = "one", more: str = "") -> None:
    log = project.root.parent / "log"
    entry = f"provision:\n  - {{name: one, shell: {{inline: 'echo {text} >> {log}', become: false}}{more}}}\n"
    (project.root / "Vmfile").write_text(f"{head}synced_folders: []\n{entry}")


def came(ran: Ran) -> str:
    """By which step a machine came up, and whether its memory was kept."""
    did = {row["step"] for row in ran.events("step-done") if row["changed"]}
    return " ".join(step for step in ("thaw", "create", "keep") if step in did)


def again(project: Project, *words: str) -> Ran:
    project.vmctl("destroy", "--yes")
    return project.vmctl("up", "--json", *words)


def kept(project: Project) -> list[dict[str, Any]]:
    return [row for row in project.vmctl("cache", "list", "--json").answer["layers"] if row["memory"]]


def test_a_machine_goes_on_from_its_memory_with_its_keys(instant: Project) -> None:
    first = instant.vmctl("up", "--json")
    assert came(first) == "create keep"
    machine = first.answer["machines"][0]
    key = (instant.layout.machine("default").key).read_bytes()
    instant.vmctl("destroy", "--yes")
    assert "  from its kept memory: " in instant.vmctl("plan").out
    second = instant.vmctl("up", "--json")
    assert came(second) == "thaw"
    assert (second.answer["machines"][0]["state"], second.answer["machines"][0]["ready"]) == ("running", True)
    assert second.answer["machines"][0]["domain"] == machine["domain"]
    assert second.answer["provisioned"] == {}
    assert (instant.layout.machine("default").key).read_bytes() == key
    assert (instant.root.parent / "log").read_text() == "one\n"
    assert instant.vmctl("up").out == "default is up; nothing to do\n"
    assert "not kept" not in instant.vmctl("up", "--instant").err, "it is already"
    assert came(again(instant)) == "thaw", "as often as wanted"


def test_only_a_guest_that_goes_on_is_taken_for_booted(instant: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    real, said = ssh.await_ssh, []

    def await_ssh(**words: Any) -> Any:
        said.append(words["booted"])
        return real(**words)

    monkeypatch.setattr(ssh, "await_ssh", await_ssh)
    instant.vmctl("up")
    again(instant)
    assert said == [False, True]


def test_what_changed_makes_it_anew_and_replaces_the_memory(instant: Project) -> None:
    instant.vmctl("up")
    write(instant, head=f"{HEAD}cpus: 3\n")
    ran = again(instant)
    assert came(ran) == "create keep"
    assert any("its kept memory is of another state of the project" in row["text"] for row in ran.events("notice"))
    write(instant, head=f"{HEAD}cpus: 3\n", text="two")
    assert came(again(instant)) == "create keep"
    assert len(kept(instant)) == 1, "a machine has one memory"
    assert came(again(instant)) == "thaw"


def test_who_says_how_it_is_to_be_made_gets_no_memory(instant: Project) -> None:
    instant.vmctl("up")
    for words in (("--cold",), ("--no-instant",), ("--provision",), ("--no-provision",)):
        assert came(again(instant, *words)) == "create"
    assert came(again(instant)) == "thaw"


def test_memory_that_was_wanted_once_is_used_and_kept_no_more(instant: Project) -> None:
    plain = HEAD.replace("instant: true\n", "")
    write(instant, head=plain)
    assert came(instant.vmctl("up", "--json", "--instant")) == "create keep"
    instant.vmctl("destroy", "--yes")
    assert "  from its kept memory: " in instant.vmctl("plan").out
    assert came(instant.vmctl("up", "--json")) == "thaw"
    assert came(again(instant, "--no-instant")) == "create"
    write(instant, head=f"{plain}cpus: 3\n")
    ran = again(instant)
    assert came(ran) == "create"
    assert not any("memory" in row["text"] for row in ran.events("notice"))


@pytest.mark.parametrize("words", [("--cold",), ("--provision",), ("--no-provision",), ("--only", "one")])
def test_what_contradicts_it_is_refused(instant: Project, words: tuple[str, ...]) -> None:
    assert "--instant cannot be combined with" in instant.vmctl("up", "--instant", *words, status=2).err


def test_memory_that_fails_is_told_and_gone(instant: Project) -> None:
    instant.vmctl("up")
    key = (instant.layout.machine("default").key).read_bytes()
    (one,) = kept(instant)
    memory = instant.home / "kept" / f"{one['key']}.memory"
    then = memory.stat()
    memory.write_text(memory.read_text()[::-1])
    os.utime(memory, ns=(then.st_atime_ns, then.st_mtime_ns))
    ran = again(instant)
    assert came(ran) == "create keep"
    assert any("its kept memory is of no use, so it is made anew" in row["text"] for row in ran.events("warned"))
    assert (instant.layout.machine("default").key).read_bytes() != key
    for lost in ("machine.json", "seal"):
        (instant.home / "memories" / kept(instant)[0]["key"] / lost).unlink()
        assert came(again(instant)) == "create keep", "what was known of it is gone"
        assert came(again(instant)) == "thaw"


def test_memory_that_was_touched_since_it_was_kept_is_not_used(instant: Project) -> None:
    instant.vmctl("up")
    (one,) = kept(instant)
    os.utime(instant.home / "kept" / f"{one['key']}.memory", ns=(1, 1))
    ran = again(instant)
    assert came(ran) == "create keep"
    assert [row["text"] for row in ran.events("warned") if "changed since it was kept" in row["text"]]
    assert came(again(instant)) == "thaw"


def test_memory_outlives_its_box(instant: Project) -> None:
    instant.vmctl("up")
    instant.vmctl("destroy", "--yes")
    instant.vmctl("box", "remove", "seeded")
    assert "there is no box 'seeded'" in instant.vmctl("up", status=1).err
    make_box(instant.home, "seeded", seeding="vmctl")
    assert came(instant.vmctl("up", "--json")) == "thaw"


def test_what_always_runs_runs_again_and_what_cannot_be_keyed_keeps_no_memory(instant: Project) -> None:
    write(instant, more=", run: always")
    assert came(instant.vmctl("up", "--json")) == "create keep"
    ran = again(instant)
    assert came(ran) == "thaw"
    assert ran.answer["provisioned"]["machines"]["default"]["ran"] == ["one"]
    for text, runs in (("two", "always"), ("two", "never")):
        write(instant, text=text, more=f", run: {runs}")
        assert came(again(instant)) == "create keep", "what ran before is in the memory"
    write(instant, more=", sensitive: true")
    ran = again(instant)
    assert came(ran) == "create"
    assert any("its memory is not kept: it is sensitive (one)" in row["text"] for row in ran.events("notice"))


def test_a_failed_provisioner_keeps_no_memory(instant: Project) -> None:
    write(instant, text="one; false")
    instant.vmctl("up", status=4)
    assert kept(instant) == []
    write(instant)
    instant.vmctl("up")
    assert "only that of a machine that `up` has just made is" in instant.vmctl("up", "--instant").err


def test_ctrl_c_while_memory_is_kept_leaves_no_keys_and_a_ready_machine(
    instant: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        interrupt.request()
        raise WrongState("No space left on device", hint="df -h")

    with monkeypatch.context() as patched:
        patched.setattr(MEMORY.load(), "keep_memory", fail)
        instant.vmctl("up", status=130)
    assert list((instant.home / "memories").iterdir()) == []
    assert instant.vmctl("up").out == "default is up; nothing to do\n"


def test_what_a_killed_vmctl_has_kept_goes_with_its_machine(instant: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """The end of a vmctl that could not write down what it kept."""

    real = MEMORY.load().keep_memory

    def keep_memory(*words: Any) -> None:
        real(*words)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(MEMORY.load(), "keep_memory", keep_memory)
        with pytest.raises(Killed):
            instant.vmctl("up")
    assert len(kept(instant)) == 1
    instant.vmctl("destroy", "--yes")
    assert kept(instant) == []
    assert list((instant.home / "memories").iterdir()) == []


def test_no_memory_where_the_guest_cannot_be_quiet(instant: Project) -> None:
    for said, told in (("busy /srv", "/srv is in use in the guest"), ("quiet ", "neither perl nor python3")):
        quiescing.QUIESCE.write_text(f"echo '{said}'\n")
        ran = again(instant)
        assert came(ran) == "create"
        assert any(told in row["text"] for row in ran.events("notice"))
        assert instant.vmctl("up").out == "default is up; nothing to do\n", "it is as ready as before"
