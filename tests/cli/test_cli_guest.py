"""The commands that go into machines: fake machines, real SSH servers, real OpenSSH."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import Project
from vmctl import interrupt, process
from vmctl.cli import running
from vmctl.cli.root import cli
from vmctl.console import Console
from vmctl.driver import Host
from vmctl.events import Event, Notice
from vmctl.layout import ProjectLayout
from vmctl.store import records
from vmctl.testing import FakeDriver

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def vmctl(project: Project, capfd: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error of a command line, those of its programs included."""
    project.vmfile("machines: {web: {}, db: {}}\n")

    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = running.run(cli, ["-C", str(project.root), *words])
        out, err = capfd.readouterr()
        return status, out, err

    return run


def answer(ran: tuple[int, str, str]) -> Any:
    """The last line of JSON of a command that succeeded."""
    status, out, err = ran
    assert status == 0, err
    return json.loads(out.splitlines()[-1])


def layout(project: Project) -> ProjectLayout:
    return project.layout


def close_the_way_in(project: Project, name: str) -> None:
    """Have the machine's SSH forward lead to where nobody listens."""
    machine = layout(project).machine(name)
    record = records.load(machine)
    assert record
    (forward,) = record.forwards
    records.save(machine, record.but(forwards=(type(forward)(**{**_fields(forward), "host": 1}),)))


def _fields(forward: Any) -> dict[str, Any]:
    return {name: getattr(forward, name) for name in ("name", "guest", "host", "host_ip", "protocol")}


def test_a_command_runs_with_its_own_streams_and_status(project: Project, vmctl: Run) -> None:
    project.vmctl("up", "web")
    assert vmctl("ssh", "web", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert vmctl("ssh", "-c", "exit 0", "web") == (0, "", "")


def test_ssh_needs_no_answer_from_the_hypervisor(project: Project, vmctl: Run) -> None:
    project.vmctl("up", "web")
    FakeDriver(Host(home=project.home), directory=project.home / "fake").fail("states")
    assert vmctl("status")[0] == 1
    assert vmctl("ssh", "web", "-c", "true")[0] == 0


def test_options_behind_the_dashes_go_to_ssh(project: Project, vmctl: Run) -> None:
    project.vmctl("up", "web")
    assert vmctl("ssh", "web", "-c", "true", "--", "-o", "Compression=yes")[0] == 0
    status, _, err = vmctl("ssh", "web", "-c", "true", "--", "-o", "Nonsense=1")
    assert status != 0
    assert "nonsense" in err


def test_an_interactive_session_is_openssh_itself(
    project: Project, vmctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.vmctl("up", "web")
    started: list[list[str]] = []

    def execv(program: str, argv: list[str]) -> None:
        assert program == argv[0]
        started.append(argv)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(SystemExit):
        vmctl("ssh", "web", "--", "-A")
    config = str(layout(project).machine("web").ssh_config)
    assert started == [[process.find("ssh"), "-F", config, "-A", "--", "web"]]


def test_which_machine_must_be_clear(vmctl: Run) -> None:
    status, _, err = vmctl("ssh", "-c", "true")
    assert status == 2
    assert "name one of: web, db" in err


COMMANDS = [("ssh", "web", "-c", "true"), ("ssh", "web"), ("exec", "web", "true"), ("sync", "web")]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_machine_that_does_not_exist_is_told_as_such(vmctl: Run, words: tuple[str, ...]) -> None:
    status, out, err = vmctl(*words)
    assert (status, out) == (3, "")
    assert "machine web is not created" in err
    assert "vmctl up web" in err


@pytest.mark.parametrize("words", COMMANDS)
def test_a_machine_that_is_off_is_told_as_such(project: Project, vmctl: Run, words: tuple[str, ...]) -> None:
    project.vmctl("up", "web")
    project.vmctl("halt", "web")
    status, out, err = vmctl(*words)
    assert (status, out) == (3, "")
    assert "machine web is stopped" in err


def test_a_running_machine_that_does_not_answer_is_unreachable(project: Project, vmctl: Run) -> None:
    project.vmctl("up", "web")
    close_the_way_in(project, "web")
    assert vmctl("ssh", "web", "-c", "true")[0] == 5
    assert vmctl("sync", "web")[0] == 5


def test_exec_passes_arguments_exactly(project: Project, vmctl: Run) -> None:
    project.vmctl("up", "web")
    words = ("printf", "%s|", "a b", "$HOME", "-n", "--json", "*")
    assert vmctl("exec", "web", "--", *words) == (0, "a b|$HOME|-n|--json|*|", "")
    assert vmctl("exec", "web", "sh", "-c", "exit 3")[0] == 3


def test_exec_and_ssh_answer_in_json(project: Project, vmctl: Run) -> None:
    project.vmctl("up", "web")
    expected = {"event": "result", "status": 0, "stdout": "a b\n", "stderr": ""}
    assert answer(vmctl("exec", "--json", "web", "echo", "a b")) == expected
    assert answer(vmctl("ssh", "--json", "-c", "echo a b", "web")) == expected
    assert vmctl("ssh", "--json", "web")[0] == 2


def test_exec_in_several_machines_names_each_line(project: Project, vmctl: Run) -> None:
    project.vmctl("up")
    status, out, _ = vmctl("exec", "*", "--", "sh", "-c", "echo hello; exit 4")
    assert status == 4
    assert sorted(out.splitlines()) == ["db: hello", "web: hello"]


def test_ssh_config_works_with_plain_openssh(project: Project, vmctl: Run, tmp_path: Path) -> None:
    project.vmctl("up")
    status, out, _ = vmctl("ssh-config")
    assert status == 0
    (tmp_path / "config").write_text(out)
    for name in ("web", "db"):
        assert process.run(["ssh", "-F", tmp_path / "config", name, "echo", name]).stdout == f"{name}\n"
    status, out, _ = vmctl("ssh-config", "web", "--json")
    machine = json.loads(out)["machines"]["web"]
    assert Path(machine["key"]) == layout(project).machine("web").key


def test_upload_copies_files_and_directories(project: Project, vmctl: Run, tmp_path: Path) -> None:
    project.vmctl("up", "web")
    source = tmp_path / "dir with space"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("x")
    target = tmp_path / "target"
    assert vmctl("upload", str(source), str(target), "web")[0] == 0
    assert (target / "sub" / "file").read_text() == "x"
    copied = answer(vmctl("upload", "--json", str(source / "sub" / "file"), str(tmp_path / "copy"), "web"))
    assert copied["machine"] == "web"
    assert (tmp_path / "copy").read_text() == "x"
    assert vmctl("upload", str(source), "/dev/null/no", "web")[0] == 1
    assert vmctl("upload", str(tmp_path / "absent"))[0] == 2
    close_the_way_in(project, "web")
    assert vmctl("upload", str(source), str(target), "web")[0] == 5


def test_logs_shows_what_the_console_said(project: Project, vmctl: Run) -> None:
    assert vmctl("logs", "web")[0] == 3
    project.vmctl("up", "web")
    layout(project).machine("web").console.write_bytes(b"\x1b[2Jone\r\ntwo\r\n\xe9three")
    assert vmctl("logs", "web") == (0, "one\ntwo\nthree\n", "")
    assert vmctl("logs", "web", "-n", "1")[1] == "three\n"
    status, out, _ = vmctl("logs", "web", "-n", "2", "--json")
    assert (status, json.loads(out)["lines"]) == (0, ["two", "three"])


def test_logs_can_be_followed(project: Project, vmctl: Run) -> None:
    project.vmctl("up", "web")
    console = layout(project).machine("web").console
    console.write_text("one\n")

    def write() -> None:
        with console.open("a") as stream:
            stream.write("two\nhal")
        time.sleep(0.5)
        console.write_text("new\n")  # the machine was started again
        time.sleep(0.5)
        interrupt.request()

    writer = threading.Timer(0.5, write)
    writer.start()
    status, out, _ = vmctl("logs", "-f", "web")
    writer.join()
    assert (status, out) == (130, "one\ntwo\nnew\n")


@pytest.fixture
def copied(project: Project, vmctl: Run, tmp_path: Path) -> tuple[Path, Path]:
    """A host directory and its copy in machine web, which is up."""
    source, target = project.root / "src", tmp_path / "guest"
    source.mkdir()
    (source / "a").write_text("one")
    project.vmfile(f"machines: {{web: {{}}}}\nsynced_folders: [{{host: src, guest: {target}, type: rsync}}]\n")
    project.vmctl("up", "web")
    assert (target / "a").read_text() == "one"
    return source, target


def test_sync_sends_what_changed_and_lists_it_when_asked(copied: tuple[Path, Path], vmctl: Run) -> None:
    source, target = copied
    (source / "b").write_text("two")
    (source / "a").unlink()
    (target / "made").write_text("in the guest")
    status, out, err = vmctl("sync", "-v")
    assert (status, out) == (0, f"web: {target} (rsync)\n")
    assert f"web: {target}: 1 sent (3 B), 1 removed" in err
    assert "removed a" in err
    assert sorted(path.name for path in target.iterdir()) == ["b", "made"]
    assert answer(vmctl("sync", "--json"))["machines"] == {"web": {str(target): "rsync"}}


def test_sync_watch_goes_on_until_interrupted(
    copied: tuple[Path, Path], vmctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = copied
    watching, report = threading.Event(), Console.report

    def listen(console: Console, event: Event) -> None:
        report(console, event)
        if isinstance(event, Notice) and event.text.startswith("watching "):
            watching.set()

    def edit() -> None:
        watching.wait(60)  # an edit before that would come with the first copy
        for number in range(100):
            (source / "a").write_text(str(number))
            time.sleep(0.1)
            if (target / "a").read_text() not in ("one", "0"):
                break
        interrupt.request()

    monkeypatch.setattr(Console, "report", listen)
    editor = threading.Thread(target=edit)
    editor.start()
    status, _, err = vmctl("sync", "--watch")
    editor.join()
    assert status == 130
    assert f"watching {source}" in err
    assert (target / "a").read_text() not in ("one", "0")


def test_there_must_be_something_to_watch(project: Project, vmctl: Run) -> None:
    project.vmctl("up", "web")
    status, _, err = vmctl("sync", "--watch", "web")
    assert status == 2
    assert "nothing to watch" in err
