"""What users see when something fails that no command foresaw, and what is kept for the bug report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.fake_guests import FakeGuests
from tests.cli.harness import Project
from vmctl.cli.root import cli
from vmctl.cli.running import run
from vmctl.driver import Host
from vmctl.workspace import Workspace

VMCTL = Path(sys.executable).with_name("vmctl")


def test_a_fault_of_vmctl_is_one_message_and_a_log(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError("seven by nothing")

    project.vmfile("")
    monkeypatch.setattr(Workspace, "survey", broken)
    ran = project.vmctl("status", status=1)
    assert "error: internal error (a bug in vmctl): ZeroDivisionError: seven by nothing" in ran.err
    assert "Traceback" not in ran.err
    log = project.home / "vmctl.log"
    assert f"hint: tail -n 50 {log}" in ran.err
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    assert project.vmctl("status", "--json", status=1).answer["kind"] == "VmctlError"


def test_the_log_tells_of_failures_without_arguments_of_the_guests_programs(project: Project) -> None:
    project.vmfile("vars: {token: x}\nready: [{command: 'test x = {{ vars.token }}', timeout: 1}]\n")
    project.vmctl("--set", "token=s3cr3t", "up", status=1)
    text = (project.home / "vmctl.log").read_text()
    assert "vmctl 0." in text
    assert " up\n" in text
    assert "default: ['sh'] -> 1" in text
    assert "s3cr3t" not in text
    assert "Traceback" in text


def test_a_reader_that_has_gone_is_no_failure_of_ours(project: Project) -> None:
    done = subprocess.run(
        ["bash", "-c", '"$0" schema | true; echo ${PIPESTATUS[0]}', VMCTL], check=True, capture_output=True, text=True
    )
    assert done.stdout in {"141\n", "0\n"}
    read, write = os.pipe()
    os.close(read)
    gone = subprocess.run([VMCTL, "schema"], check=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (gone.returncode, gone.stderr) == (141, b"")


def test_the_log_is_turned_over(project: Project) -> None:
    log = project.home / "vmctl.log"
    log.write_bytes(b"x" * 2_000_000)
    project.vmfile("")
    project.vmctl("ssh", "-c", "true", status=3)
    assert log.stat().st_size < 100_000
    assert log.with_name("vmctl.log.1").stat().st_size == 2_000_000


def test_what_the_system_refuses_is_an_error(project: Project) -> None:
    project.vmfile("")
    (project.root / ".vmctl").write_text("a file where a directory should be")
    ran = project.vmctl("up", status=1)
    assert f"error: {project.root}/.vmctl" in ran.err
    assert "Traceback" not in ran.err


def test_a_machine_that_the_system_refuses_fails_alone(project: Project) -> None:
    project.vmfile("machines: {web: {}, db: {}}\n")
    project.vmctl("up")
    project.vmctl("destroy", "--yes")
    machines = project.layout.machines
    (machines / "db" / "journal").mkdir(parents=True)
    ran = project.vmctl("up", status=1)
    assert f"{machines}/db/journal: Is a directory" in ran.err
    assert project.states()["web"] == "running"


def test_nothing_but_vmctl_is_its_help(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, []) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Usage: vmctl")
    assert "error:" not in shown


def test_a_log_that_can_not_be_kept_is_done_without(project: Project) -> None:
    project.vmfile("")
    Path(project.home / "vmctl.log").mkdir()
    project.vmctl("ssh", "-c", "true", status=3)


def test_list_does_not_call_absent_what_it_could_not_ask(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    for question in ("states", "observe"):
        FakeGuests(Host(home=project.home)).fail(question, "the hypervisor sleeps")
    ran = project.vmctl("list", "--json")
    assert [row["state"] for row in ran.answer["machines"]] == ["unknown"]
    assert "warning: the hypervisor sleeps; its machines are shown as unknown" in ran.err
    assert "the hypervisor sleeps" in project.vmctl("status", status=1).err


def test_one_damaged_project_does_not_hide_the_others(project: Project, tmp_path: Path) -> None:
    project.vmfile("")
    project.vmctl("up")
    other = Project(tmp_path / "other", project.home)
    other.root.mkdir()
    other.vmfile("")
    other.vmctl("up")
    third = Project(tmp_path / "third", project.home)
    third.root.mkdir()
    third.vmfile("")
    third.vmctl("up")
    other.layout.place.write_text("{")
    third.layout.machine("default").record.write_text("{")
    ran = project.vmctl("list", "--json")
    assert f"{project.home}/projects/" in ran.err
    assert "place.json is damaged" in ran.err
    assert "machine.json is damaged" in ran.err
    assert {row["project"]: row["state"] for row in ran.answer["machines"]}[str(project.root)] == "running"


def test_a_directory_whose_name_is_not_utf_8_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = project.root / "\udcff"
    strange.mkdir()
    assert r"\xff has a name that is not UTF-8" in project.vmctl("-C", str(strange), "status", status=2).err
    monkeypatch.setenv("VMCTL_HOME", str(strange))
    assert r"\xff has a name that is not UTF-8" in project.vmctl("list", status=2).err


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(project: Project, redirection: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" box list {redirection}', VMCTL], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_terminal_can_not_say_is_escaped(project: Project) -> None:
    project.vmfile("message: naïve ☃\n")
    project.vmctl("up")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for words in (["config"], ["config", "--json"]):
        argv = [str(VMCTL), "-C", str(project.root), *words]
        done = subprocess.run(argv, check=True, capture_output=True, env=environment)
        text = done.stdout.decode("ascii")
        assert json.loads(text)["message"] == "naïve ☃" if "--json" in words else "na" in text


def test_paths_start_where_the_directory_option_says(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.vmfile("")
    project.vmctl("up")
    (project.root / "notes.txt").write_text("hello")
    monkeypatch.chdir("/")
    target = project.root / "copy.txt"
    project.vmctl("upload", "notes.txt", str(target))
    assert target.read_text() == "hello"
    assert "does not exist" in project.vmctl("package", "--include", "absent.txt", status=2).err


def test_patience_is_never_negative(project: Project) -> None:
    assert "-1.0 is not in the range" in project.vmctl("list", "--lock-timeout", "-1", status=2).err
    assert "-1.0 is not in the range" in project.vmctl("--lock-timeout", "-1", "list", status=2).err


@pytest.mark.parametrize(
    ("words", "place", "hint"),
    [
        ("up --set a=1", "before", "vmctl --set KEY=VALUE up"),
        ("box list -C /tmp", "before", "vmctl -C DIR box list"),
        ("status --no-color", "before", "vmctl --no-color status"),
        ("--provider libvirt up", "behind", "vmctl up --provider NAME"),
        ("--info box list", "behind", "vmctl box list --info"),
        ("snapshot --force save one", "behind", "vmctl snapshot save --force"),
    ],
)
def test_an_option_on_the_wrong_side_is_shown_its_place(project: Project, words: str, place: str, hint: str) -> None:
    option = next(word for word in words.split() if word.startswith("-"))
    told = project.vmctl(*words.split(), status=2).err
    assert told == f"error: the option {option} stands {place} the command\nhint: {hint}\n"


def test_an_option_that_nobody_knows_is_answered_with_the_commands_help(project: Project) -> None:
    assert "hint: vmctl up --help" in project.vmctl("up", "--frobnicate", status=2).err
    assert "hint: vmctl --help" in project.vmctl("--frobnicate", "up", status=2).err
