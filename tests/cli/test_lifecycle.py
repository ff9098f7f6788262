"""up, status, halt, suspend, resume, reload, destroy: what users see, and what is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec import structs

from tests.cli.harness import Project, make_box
from vmctl import interrupt, seed
from vmctl.driver import Forward, Host, Tag
from vmctl.testing import FakeDriver

VMCTL = Path(sys.executable).with_name("vmctl")


def test_up_brings_a_machine_up_and_says_how_to_get_in(project: Project) -> None:
    project.vmfile("")
    ran = project.vmctl("up")
    assert ran.out == "default is up: vmctl ssh default\n"
    assert "default: creating from tiny" in ran.err
    assert "default: waiting for SSH" in ran.err
    assert project.states() == {"default": "running"}


def test_up_again_does_nothing(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    ran = project.vmctl("up")
    assert (ran.out, ran.err) == ("default is up; nothing to do\n", "")
    assert project.vmctl("up", "--json").answer["changed"] is False


def test_up_json_is_events_then_one_result(project: Project) -> None:
    project.vmfile("message: Open the pod bay doors.\n")
    ran = project.vmctl("up", "--json")
    steps = [event["step"] for event in ran.events("step-done")]
    assert steps == [
        "fetch_box", "find", "make_keys", "record", "define", "write_seed", "create", "start", "await_ssh",
        "settle", "mark_ready",
    ]  # fmt: skip
    (machine,) = ran.answer["machines"]
    assert machine["action"] == "create"
    assert machine["state"] == "running"
    assert machine["ready"] is True
    assert machine["ssh"]["port"] in range(22000, 23000)
    assert ran.answer["message"] == "Open the pod bay doors."
    assert ran.err == ""


def test_the_whole_life(project: Project) -> None:
    project.vmfile("ports: ['auto:80']\n")
    assert project.states() == {"default": "not created"}
    project.vmctl("up")
    number = int(project.vmctl("port", "--guest", "80").out)
    assert f"127.0.0.1:{number}->80" in project.vmctl("status").out
    project.vmctl("suspend")
    assert project.states() == {"default": "saved"}
    project.vmctl("resume")
    assert project.states() == {"default": "running"}
    project.vmctl("halt")
    assert project.states() == {"default": "stopped"}
    project.vmctl("resume", status=3)
    project.vmctl("up")
    project.vmctl("reload")
    assert int(project.vmctl("port", "--guest", "80").out) == number
    project.vmctl("destroy", "--yes")
    assert project.states() == {"default": "not created"}
    assert json.loads((project.home / "ports.json").read_text()) == []
    assert list(project.layout.machines.iterdir()) == []
    assert project.vmctl("destroy", "--yes").out == "nothing to destroy\n"


def test_resume_after_suspend_wants_no_names_where_some_are_off(project: Project) -> None:
    project.vmfile("machines: {web: {depends_on: [db]}, db: {}, off: {}, later: {autostart: false}}\n")
    project.vmctl("up")
    project.vmctl("halt", "off")
    project.vmctl("suspend")
    assert "machine off is stopped, not suspended" in project.vmctl("resume", "web", "off", status=3).err
    assert project.states()["web"] == "saved", "all or none of those that are named"
    project.vmctl("resume")
    assert project.states() == {"web": "running", "db": "running", "off": "stopped", "later": "not created"}
    project.vmctl("halt", "db")
    project.vmctl("suspend")
    project.vmctl("resume")
    assert (project.states()["web"], project.states()["db"]) == ("running", "running"), "web depends on it"


def test_halt_and_destroy_before_any_up(project: Project) -> None:
    project.vmfile("")
    assert project.vmctl("destroy", "--yes").out == "nothing to destroy\n"
    assert project.vmctl("halt", "--json").answer["changed"] is False


def test_before_any_up_nobody_has_chosen_a_provider(project: Project) -> None:
    (project.root / "Vmfile").write_text("box: tiny\n")
    assert "auto (`up` chooses)" in project.vmctl("status").out
    (project.root / "Vmfile").write_text("box: tiny\nprovider: fakeguests\n")
    assert "fakeguests (Vmfile)" in project.vmctl("status").out


def test_a_machine_that_could_not_be_made_does_not_exist_there(project: Project) -> None:
    project.vmfile("")
    driver = FakeDriver(Host(home=project.home), directory=project.home / "fake")
    driver.fail("create")
    project.vmctl("up", status=1)
    assert "fakeguests (begun there)" in project.vmctl("status").out
    driver.mend()
    project.vmctl("up")
    assert "fakeguests (exists there)" in project.vmctl("status").out


def test_destroy_without_a_terminal_names_the_flag(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    ran = project.vmctl("destroy", status=2)
    assert "hint: add --yes" in ran.err
    assert project.states() == {"default": "running"}


def test_secrets_are_private(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    state = project.layout.root
    assert state.stat().st_mode & 0o777 == 0o700
    for name in ("id_ed25519", "host_ed25519", "seed.iso"):
        assert (state / "machines" / "default" / name).stat().st_mode & 0o777 == 0o600


def instance(project: Project) -> str:
    """What cloud-init is told to tell a new instance by."""
    content = seed.read(project.layout.machine("default").seed)
    return str(json.loads(content["meta-data"])["instance-id"])


def test_a_first_boot_that_was_cut_short_is_done_again(project: Project) -> None:
    project.vmfile("boot_timeout: 1\n")
    (project.home / "no-sshd").touch()
    project.vmctl("up", status=5)
    first = instance(project)
    project.vmctl("halt", "--force")
    (project.home / "no-sshd").unlink()
    project.vmctl("up")
    second = instance(project)
    assert second != first  # or keys that the power cut left empty would stay so
    project.vmctl("halt")
    project.vmctl("up")
    assert instance(project) == second


def test_several_machines_in_order_of_their_dependencies(project: Project) -> None:
    project.vmfile("machines: {web: {depends_on: [db]}, db: {}, cache: {}}\n")
    ran = project.vmctl("up", "web", "--json")
    started = [event["machine"] for event in ran.events("step-started") if event["step"] == "start"]
    assert started == ["db", "web"]
    assert project.states() == {"web": "running", "db": "running", "cache": "not created"}


def test_a_failed_machine_stops_its_dependents_but_not_the_others(project: Project) -> None:
    project.vmfile(
        "machines:\n  web: {depends_on: [db]}\n  db: {ready: [{command: 'false', timeout: 1}]}\n  cache: {}\n"
    )
    ran = project.vmctl("up", status=1)
    assert "db: timed out waiting for `false` to succeed in db" in ran.err
    assert "web: not attempted, it depends on db" in ran.err
    assert project.states() == {"web": "not created", "db": "running", "cache": "running"}
    rows = project.vmctl("status", "--json").answer["machines"]
    assert {row["name"]: row["ready"] for row in rows} == {"web": False, "db": False, "cache": True}
    project.vmctl("status", "--check", status=3)


def test_a_machine_that_left_the_vmfile_is_shown_and_destroyed(project: Project) -> None:
    project.vmfile("machines: {web: {}, old: {}}\n")
    project.vmctl("up")
    project.vmfile("machines: {web: {}}\n")
    assert "no longer in the Vmfile" in project.vmctl("status").out
    project.vmctl("destroy", "old", "--yes")
    assert project.states() == {"web": "running"}


def test_changes_in_the_vmfile_say_what_they_need(project: Project) -> None:
    project.vmfile("memory: 1GiB\n")
    project.vmctl("up")
    project.vmfile("memory: 2GiB\n")
    assert "memory changed in the Vmfile: `vmctl reload default` applies it" in project.vmctl("up").err
    change = project.vmctl("plan", "--json").answer["machines"][0]["changes"]
    assert change == [{"field": "memory", "old": 2**30, "new": 2**31, "needs": "reload"}]
    project.vmctl("reload")
    assert project.vmctl("plan", "--json").answer["machines"][0]["changes"] == []


def test_a_hypervisor_that_can_not_be_asked_is_an_error(project: Project) -> None:
    project.vmfile("fakeguests: {fail: {states: told to fail, observe: told to fail}}\n")
    project.vmctl("status")  # no project id yet: nothing can exist, nobody is asked
    project.vmfile("")
    project.vmctl("up")
    project.vmfile("fakeguests: {fail: {states: told to fail, observe: told to fail}}\n")
    for words in (["status"], ["up"], ["destroy", "--yes"], ["halt"]):
        assert "told to fail" in project.vmctl(*words, status=1).err
    assert project.layout.machine("default").record.exists()


def test_a_port_collision_is_found_before_anything_starts(project: Project, tmp_path: Path) -> None:
    project.vmfile("machines: {a: {}, b: {ports: ['22999:80']}}\n")
    other = Project(tmp_path / "other", project.home)
    other.root.mkdir()
    other.vmfile("ports: ['22999:80']\n")
    other.vmctl("up")
    ran = project.vmctl("up", status=1)
    assert f"127.0.0.1:22999/tcp belongs to machine default of {other.root}" in ran.err
    assert project.states() == {"a": "not created", "b": "not created"}


def test_what_is_refused_before_anything_starts_leases_no_port(project: Project) -> None:
    """ "nothing was changed" is true of the port leases, too."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        project.vmfile(f"machines:\n  web: {{ports: ['auto:80']}}\n  db: {{ports: ['{port}:80']}}\n")
        project.vmctl("up", status=1)
    assert not (project.home / "ports.json").exists()
    project.vmctl("up", "web")
    before = (project.home / "ports.json").read_text()
    project.vmctl("halt")
    project.vmfile("fakeguests: {fail: {check: told to refuse}}\nmachines:\n  web: {ports: ['auto:80', 'auto:81']}\n")
    project.vmctl("up", status=1)
    assert (project.home / "ports.json").read_text() == before


def test_a_suspended_machine_keeps_its_ports_or_says_who_has_them(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    project.vmctl("suspend")
    number = project.vmctl("status", "--json").answer["machines"][0]["ssh"]["port"]
    with socket.create_server(("127.0.0.1", number)):
        ran = project.vmctl("up", status=1)
    assert f"127.0.0.1:{number}/tcp is in use by " in ran.err
    assert project.states() == {"default": "saved"}
    project.vmctl("up")


def test_a_machine_frozen_in_memory_goes_on(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    kept = project.home / "fake" / "machines.json"
    kept.write_text(kept.read_text().replace('"running"', '"paused"'))
    assert project.states() == {"default": "paused"}
    steps = [event["step"] for event in project.vmctl("resume", "--json").events("step-done")]
    assert steps == ["define", "start", "await_ssh", "wake", "mark_ready"]
    assert project.states() == {"default": "running"}


def test_a_running_machines_ports_change_with_reload_only(project: Project) -> None:
    project.vmfile("ports: ['22998:80']\n")
    project.vmctl("up")
    project.vmfile("ports: ['22997:80']\n")
    project.vmctl("up")
    assert project.vmctl("port", "--guest", "80").out == "22998\n"
    project.vmctl("reload")
    assert project.vmctl("port", "--guest", "80").out == "22997\n"


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Forward, ...]]:
    """What the driver was told, which can change forwards while machines run."""
    reported: list[tuple[Forward, ...]] = []

    def set_forwards(_driver: FakeDriver, _name: str, _tag: Tag, forwards: tuple[Forward, ...]) -> None:
        reported.append(forwards)

    monkeypatch.setattr(FakeDriver, "set_forwards", set_forwards, raising=False)
    return reported


def test_ports_change_at_once_where_the_hypervisor_can(project: Project, live: list[tuple[Forward, ...]]) -> None:
    project.vmfile("ports: ['22998:80']\nmemory: 256MiB\n")
    project.vmctl("up")
    kept = json.loads(project.layout.machine("default").record.read_text())["forwards"][0]
    project.vmfile("ports: ['22997:80', '22996:81']\nmemory: 512MiB\n")
    (row,) = project.vmctl("plan", "--json").answer["machines"]
    assert (row["action"], row["member"]) == ("adapt", None)
    assert {change["field"]: change["needs"] for change in row["changes"]} == {"ports": "up", "memory": "reload"}
    ran = project.vmctl("up", "--json")
    assert [each["text"] for each in ran.events("step-started")] == ["changing its ports"]
    (forwards,) = live
    assert structs.asdict(forwards[0]) == kept, "SSH's goes on"
    assert [(one.name, one.host) for one in forwards[1:]] == [("tcp80", 22997), ("tcp81", 22996)]
    assert project.vmctl("port", "--guest", "80").out == "22997\n"
    assert "memory changed in the Vmfile" in project.vmctl("up").err
    assert len(live) == 1, "there was nothing to change any more"


def test_a_port_that_is_taken_changes_nothing(project: Project, live: list[tuple[Forward, ...]]) -> None:
    project.vmfile("ports: ['22998:80']\n")
    project.vmctl("up")
    project.vmfile("ports: ['22997:80']\n")
    with socket.create_server(("127.0.0.1", 22997)):
        assert "22997/tcp is in use by" in project.vmctl("up", status=1).err
    assert live == []
    assert project.vmctl("port", "--guest", "80").out == "22998\n"
    project.vmctl("up")
    assert project.vmctl("port", "--guest", "80").out == "22997\n"


def test_ids_work_in_any_directory(project: Project, tmp_path: Path) -> None:
    project.vmfile("machines: {web: {}, db: {}}\n")
    project.vmctl("up")
    rows = project.vmctl("list", "--json").answer["machines"]
    wanted = next(row["id"] for row in rows if row["name"] == "db")
    elsewhere = Project(tmp_path, project.home)
    elsewhere.vmctl("halt", wanted)
    assert project.states() == {"web": "running", "db": "stopped"}


def test_destroy_on_error_removes_what_this_run_made(project: Project) -> None:
    project.vmfile("ready: [{command: 'false', timeout: 1}]\n")
    project.vmctl("up", "--destroy-on-error", status=1)
    assert project.states() == {"default": "not created"}


def test_no_sshd_is_unreachable_with_a_diagnosis(project: Project) -> None:
    (project.home / "no-sshd").touch()
    project.vmfile("boot_timeout: 1\n")
    ran = project.vmctl("up", status=5)
    assert "hint: vmctl logs default" in ran.err
    assert project.states() == {"default": "running"}
    (project.home / "no-sshd").unlink()
    project.vmctl("halt")
    project.vmctl("up")


def test_a_provider_switch_is_refused_while_the_machine_exists(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    ran = project.vmctl("up", "--provider", "libvirt", status=2)
    assert "exists under the provider 'fakeguests', but --provider asks for 'libvirt'" in ran.err


@pytest.mark.parametrize("step", ["create", "start", "update", "states", "observe", "address"])
@pytest.mark.parametrize("then", ["up", "destroy"])
def test_kill_9_at_any_call_then_up_finishes_or_destroy_leaves_nothing(project: Project, step: str, then: str) -> None:
    project.vmfile("")
    if step == "update":
        project.vmctl("up")
        project.vmctl("halt")
    elif step in ("states", "observe"):
        project.vmctl("status")
    project.vmfile(f"fakeguests: {{fail: {{{step}: kill}}}}\n")
    dead = subprocess.run([VMCTL, "-C", project.root, "up"], check=False, capture_output=True, env=os.environ.copy())
    assert dead.returncode == -signal.SIGKILL
    project.vmfile("")
    project.vmctl(then, *(["--yes"] if then == "destroy" else []))
    assert project.states() == {"default": "running" if then == "up" else "not created"}
    if then == "destroy":
        assert list(project.layout.machines.glob("*")) == []


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_end_up_quickly_with_their_status(project: Project, number: int, status: int, word: str) -> None:
    (project.home / "no-sshd").touch()
    project.vmfile("")
    argv = [str(VMCTL), "-C", str(project.root), "up", "--json"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ.copy())
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line).get("step") == "await_ssh":
            break
    sent = time.monotonic()
    child.send_signal(number)
    out, _ = child.communicate(timeout=10)
    assert time.monotonic() - sent < 5
    assert child.returncode == status
    assert json.loads(out.splitlines()[-1])["brief"] == word
    assert project.states() == {"default": "running"}


def test_two_ups_at_once_one_waits(project: Project) -> None:
    project.vmfile("")
    argv = [str(VMCTL), "-C", str(project.root), "up"]
    both = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())
        for _ in range(2)
    ]
    texts = [child.communicate(timeout=60) for child in both]
    assert [child.returncode for child in both] == [0, 0], texts
    assert sorted(out for out, _ in texts) == ["default is up: vmctl ssh default\n", "default is up; nothing to do\n"]


def test_a_lock_held_too_long_is_exit_6(project: Project) -> None:
    (project.home / "no-sshd").touch()
    project.vmfile("")
    argv = [str(VMCTL), "-C", str(project.root), "up", "--json"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ.copy())
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line).get("step") == "await_ssh":
            break
    ran = project.vmctl("halt", "--lock-timeout", "0", status=6)
    assert f"(process {child.pid}" in ran.err
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=10)


def test_a_machine_that_waits_when_sigterm_comes_ends_with_its_status(project: Project) -> None:
    project.vmfile("machines: {web: {}, db: {}}\n")
    interrupt.request(signal.SIGTERM)
    assert "terminated" in project.vmctl("up", status=143).err
    interrupt.clear()
    assert project.states() == {"web": "not created", "db": "not created"}


@pytest.mark.parametrize(
    ("seeding", "disk", "asked"),
    [
        ("vmctl", "disk: 20GiB\n", ["systemctl start vmctl-grow.service"]),
        ("vmctl", "", []),
        ("", "disk: 20GiB\n", ["sync"]),
    ],
)
def test_what_a_guest_that_seeds_itself_is_asked(project: Project, seeding: str, disk: str, asked: list[str]) -> None:
    binaries, stated = project.home / "fake" / "home" / "bin", project.root / "said"
    binaries.mkdir(parents=True, exist_ok=True)
    for name in ("systemctl", "sync"):
        (binaries / name).write_text(f'#!/bin/sh\necho "${{0##*/}} $*" | sed "s/ $//" >>{stated}\n')
        (binaries / name).chmod(0o755)
    make_box(project.home, "ours", seeding=seeding)
    (project.root / "Vmfile").write_text(f"box: ours\nprovider: fakeguests\nsynced_folders: []\n{disk}")
    project.vmctl("up")
    assert (stated.read_text().splitlines() if stated.exists() else []) == asked
