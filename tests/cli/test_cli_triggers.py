"""Triggers on real scripts: what they are told, when they run, and what a failure of theirs means."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.harness import Project
from vmctl.wait import Deadline, until

VMCTL = Path(sys.executable).with_name("vmctl")
EVENTS = "[up, halt, suspend, resume, reload, destroy, provision]"


def note(project: Project, *keys: str) -> str:
    """A command for `run` that writes values of its environment into the log."""
    words = " ".join(f"${key}" for key in keys)
    return f"{{inline: 'echo {words} >> {project.root}/log'}}"


def log(project: Project) -> list[str]:
    """What was written since the last look."""
    path = project.root / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_every_command_tells_its_triggers_and_only_where_it_has_work(project: Project) -> None:
    run = note(project, "VMCTL_WHEN", "VMCTL_EVENT", "VMCTL_MACHINE", "VMCTL_STATE")
    project.vmfile(f"triggers:\n  - {{before: {EVENTS}, run: {run}}}\n  - {{after: {EVENTS}, run: {run}}}\n")
    project.vmctl("up")
    assert log(project) == ["before up default not created", "after up default running"]
    project.vmctl("up")
    project.vmctl("resume")
    assert log(project) == []
    project.vmctl("suspend")
    assert log(project) == ["before suspend default running", "after suspend default saved"]
    project.vmctl("resume")
    assert log(project) == ["before resume default saved", "after resume default running"]
    project.vmctl("reload")
    assert log(project) == ["before reload default running", "after reload default running"]
    project.vmctl("halt")
    project.vmctl("halt")
    assert log(project) == ["before halt default running", "after halt default stopped"]
    project.vmctl("destroy", "--yes")
    assert [line.rpartition(" ")[0] for line in log(project)] == ["before destroy default", "after destroy default"]
    assert list(project.layout.machines.iterdir()) == []
    project.vmctl("destroy", "--yes")
    assert log(project) == []


def test_provisioning_has_triggers_whichever_command_does_it(project: Project) -> None:
    run = note(project, "VMCTL_WHEN", "VMCTL_EVENT", "VMCTL_MACHINE")
    project.vmfile(
        f"machines:\n  web: {{provision: [{{shell: {{inline: 'echo work >> {project.root}/log', become: false}}}}]}}\n"
        "  db: {}\n"
        f"triggers:\n  - {{before: provision, run: {run}}}\n  - {{after: provision, run: {run}}}\n"
    )
    for words in (("up",), ("provision",)):
        project.vmctl(*words)
        assert log(project) == ["before provision web", "work", "after provision web"]
    project.vmctl("up")
    assert log(project) == []


@pytest.mark.parametrize("on", ["host", "guest"])
def test_three_ways_to_say_what_runs(project: Project, on: str) -> None:
    script = project.root / "tell.sh"
    script.write_text('echo "$0" >/dev/null; echo "script $VMCTL_EVENT"\n')  # not executable, and names no interpreter
    project.vmfile(
        f"triggers:\n"
        f"  - {{after: up, on: {on}, run: tell.sh}}\n"
        f"  - {{after: up, on: {on}, run: [printf, '%s|%s\\n', 'a  b', \"it's $HOME\"]}}\n"
        f"  - after: up\n    on: {on}\n    name: python\n    env: {{X: 'a b'}}\n"
        f'    run: {{args: [one], inline: "#!{sys.executable}\\n'
        "import os, sys\\nprint(sys.argv[1:], os.environ['X'])\"}\n"
    )
    ran = project.vmctl("up", "--json")
    assert [event["line"] for event in ran.events("output")] == ["script up", "a  b|it's $HOME", "['one'] a b"]
    assert ran.events("output")[0]["machine"] == "default"


def test_a_failed_backup_keeps_the_machine(project: Project) -> None:
    project.vmfile(
        "machines: {web: {}, db: {}}\ntriggers:\n"
        "  - {before: destroy, machines: d*, name: backup, run: {inline: 'echo disk full; exit 7'}}\n"
        f"  - {{before: destroy, machines: db, run: {note(project, 'VMCTL_EVENT')}}}\n"
    )
    project.vmctl("up")
    ran = project.vmctl("destroy", "--yes", status=1)
    assert "db: trigger 'backup' (" in ran.err
    assert "Vmfile:6:5) failed: it ended with status 7" in ran.err
    assert "disk full" in ran.err
    assert log(project) == [], "the next one was not run"
    assert "db: db" not in ran.err
    assert project.states() == {"web": "not created", "db": "running"}


def test_a_failure_that_may_be_is_a_warning(project: Project) -> None:
    project.vmfile("triggers: [{before: up, on_error: continue, run: [no-such-program]}]\n")
    assert "warning: trigger 'no-such-program'" in project.vmctl("up").err
    assert project.states() == {"default": "running"}


def test_a_guest_trigger_of_a_halted_machine_is_no_silent_gap(project: Project) -> None:
    project.vmfile("triggers: [{before: destroy, on: guest, name: dump, run: {inline: 'true'}}]\n")
    project.vmctl("up")
    project.vmctl("halt")
    ran = project.vmctl("destroy", "--yes", status=1)
    assert "the guest does not run: machine default is stopped" in ran.err
    assert project.states() == {"default": "stopped"}
    project.vmctl("up")
    project.vmctl("destroy", "--yes")


def test_a_failed_trigger_stops_provisioning_of_its_machine(project: Project) -> None:
    project.vmfile(
        f"machines: {{web: {{}}, db: {{}}}}\n"
        f"provision: [{{shell: {{inline: 'echo $0 >> {project.root}/log', become: false}}, name: work}}]\n"
        f"triggers: [{{before: provision, machines: db, name: license, run: [false]}}]\n"
    )
    ran = project.vmctl("up", "--json", status=1)
    assert ran.answer["provisioned"]["machines"]["db"]["status"] == "failed"
    assert ran.answer["provisioned"]["machines"]["web"]["ran"] == ["work"]
    assert len(log(project)) == 1


@pytest.mark.parametrize("where", ["before: up", "after: up, on: guest"])
def test_ctrl_c_ends_what_a_trigger_runs(project: Project, where: str) -> None:
    project.vmfile(f"triggers: [{{{where}, on_error: continue, run: {{inline: 'echo $$; sleep 60; echo no'}}}}]\n")
    argv = [str(VMCTL), "-C", str(project.root), "up", "--json"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ.copy(), start_new_session=True)
    assert child.stdout is not None
    pid = next(row["line"] for row in map(json.loads, child.stdout) if row["event"] == "output")
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=20)
    assert child.returncode == 130
    assert json.loads(out.splitlines()[-1])["brief"] == "interrupted"
    until(lambda: not Path(f"/proc/{pid}").exists(), Deadline.after(5), "the end of what the trigger runs")
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)
    assert project.states() == {"default": "running" if "guest" in where else "not created"}


def test_a_look_that_changes_nothing_runs_no_triggers(project: Project) -> None:
    run = note(project, "VMCTL_WHEN")
    project.vmfile(
        "provision: [{shell: {inline: 'true', become: false}, name: note}]\n"
        f"triggers:\n  - {{before: provision, run: {run}}}\n  - {{after: provision, on: guest, run: {run}}}\n"
    )
    project.vmctl("up")
    assert log(project) == ["before", "after"]
    project.vmctl("provision", "--check")
    project.vmctl("drift")
    assert log(project) == []


def test_a_failed_trigger_has_a_full_row(project: Project) -> None:
    script = "provision: [{shell: {inline: 'true', become: false}, name: note}]\n"
    project.vmfile(script)
    project.vmctl("up")
    for when in ("before", "after"):
        project.vmfile(script + f"triggers: [{{{when}: provision, name: no, run: {{inline: 'echo why; exit 3'}}}}]\n")
        row = project.vmctl("provision", "--json", status=None).answer["provisioned"]["machines"]["default"]
        assert "trigger 'no'" in row.pop("failure")["brief"]
        done = when == "after"
        assert row == {
            "status": "failed", "ok": int(done), "changed": int(done), "failed": 0, "unreachable": 0, "skipped": 0,
            "ran": ["note"] if done else [], "failed_provisioner": None, "not_attempted": [] if done else ["note"],
            "not_checked": [], "changed_tasks": [],
        }  # fmt: skip
