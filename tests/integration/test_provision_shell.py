from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.integration.provision_bench import Bench
from tests.unit.openssh_server import Sshd, sshd
from vmctl import interrupt
from vmctl.errors import Interrupted, ProvisionFailed, Unreachable, UsageError
from vmctl.events import Output
from vmctl.provision import Status
from vmctl.spec import Shell, SourceLocation
from vmctl.wait import Deadline, until

__all__ = ["sshd"]

pytestmark = pytest.mark.integration

NASTY = ["a b", "", "$HOME", "it's", '"', "\\", "*", "new\nline", "żółć 🐧", "-n", "`id`"]


@pytest.fixture
def bench(tmp_path: Path, sshd: Sshd) -> Bench:
    return Bench(tmp_path, sshd)


def test_a_script_gets_its_arguments_and_environment_exactly(bench: Bench) -> None:
    script = bench.write(
        "told.py",
        "#!/usr/bin/env python3\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ['NASTY']]))\n",
    )
    item = Shell(name="told", script=script, args=tuple(NASTY), env={"NASTY": "\n".join(NASTY)})
    bench.machine("one", item)
    bench.run()
    assert json.loads(bench.printed) == [NASTY, "\n".join(NASTY)]
    assert bench.needs("one") == []


def test_the_environment_is_on_no_command_line_and_nothing_stays_in_the_guest(bench: Bench) -> None:
    inline = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; ls -a $(dirname $0)"
    bench.machine("one", Shell(name="look", inline=inline, env={"SECRET": "correct-horse-battery"}))
    bench.run()
    assert "vmctl-shell." in bench.printed
    assert "correct-horse-battery" not in bench.printed
    assert bench.printed.splitlines()[-2:] == ["pid", "script"]
    assert not bench.server.left


def test_an_inline_script_stops_at_its_first_failing_command(bench: Bench) -> None:
    item = Shell(
        name="setup", inline="echo first\nfalse\necho second", place=SourceLocation(file="Vmfile", line=7, column=5)
    )
    bench.machine("one", item)
    with pytest.raises(ProvisionFailed) as caught:
        bench.run()
    assert caught.value.brief == "one: the script ended with status 1 (provisioner 'setup' (Vmfile:7:5))"
    assert caught.value.details == "first"
    assert bench.needs("one") == ["setup"]


def test_a_failure_names_status_and_last_output(bench: Bench) -> None:
    script = bench.write("fail.sh", "for i in $(seq 30); do echo line $i >&2; done; exit 42\n")
    bench.machine("one", Shell(name="fail", script=script))
    with pytest.raises(ProvisionFailed) as caught:
        bench.run()
    assert caught.value.brief == "one: the script of fail.sh ended with status 42 (provisioner 'fail')"
    assert caught.value.details.splitlines() == [f"line {number}" for number in range(11, 31)]


def test_the_first_line_chooses_the_interpreter_even_with_an_argument(bench: Bench) -> None:
    bench.machine("one", Shell(name="bash", inline="#!/bin/bash -e\nwords=(a b); echo ${words[1]}; false; echo no"))
    with pytest.raises(ProvisionFailed):
        bench.run()
    assert bench.printed == "b"


def test_lines_come_as_they_are_printed_and_name_their_machine(bench: Bench, tmp_path: Path) -> None:
    item = Shell(name="slow", inline=f"echo begun; until test -e {tmp_path}/go; do sleep 0.05; done; echo ended")
    bench.machine("one", item)
    runner = threading.Thread(target=bench.run)
    runner.start()
    try:
        begun = Output(machine="one", line="begun", source="shell")
        until(lambda: begun in bench.events, Deadline.after(20), "the first line")
        assert "ended" not in bench.printed
    finally:
        (tmp_path / "go").touch()
        runner.join()
    assert bench.printed == "begun\nended"


def test_machines_run_side_by_side_and_one_failure_stays_there(bench: Bench, tmp_path: Path) -> None:
    # Each waits for the other: one after the other they would never end.
    inline = f"""
mkdir -p {tmp_path}/met; touch {tmp_path}/met/$$
for i in $(seq 400); do test "$(ls {tmp_path}/met | wc -l)" -ge 3 && break; sleep 0.05; done
test "$(ls {tmp_path}/met | wc -l)" -ge 3
mkdir {tmp_path}/last || exit 0
exit 9
"""
    for name in ("one", "two", "three"):
        bench.machine(name, Shell(name="meet", inline=inline))
    with pytest.raises(ProvisionFailed, match="status 9") as caught:
        bench.run()
    results = caught.value.summary.machines.values()  # type: ignore[attr-defined]  # TasksFailed has it
    assert sorted(result.status.value for result in results) == ["done", "done", "failed"]


def test_an_unreachable_machine_is_told_as_such(bench: Bench) -> None:
    bench.machine("one", Shell(name="setup", inline="true"), answers=False)
    with pytest.raises(Unreachable, match="nothing answers"):
        bench.run()
    assert bench.needs("one") == ["setup"]


def test_always_runs_each_time_and_once_until_it_changes(bench: Bench) -> None:
    once, always = Shell(name="once", inline="echo one"), Shell(name="always", inline="echo two", run="always")
    bench.machine("one", once, always)
    assert bench.run().machines["one"].ran == ["once", "always"]
    assert bench.run().machines["one"].ran == ["always"]
    bench.machine("one", Shell(name="once", inline="echo three"), always)
    assert bench.run().machines["one"].ran == ["once", "always"]
    assert bench.run().machines["one"].status is Status.DONE


def test_what_can_not_work_is_refused_before_anything_runs(bench: Bench, tmp_path: Path) -> None:
    bench.machine("one", Shell(name="a", inline=f"touch {tmp_path}/ran"), Shell(name="b", script=tmp_path / "missing"))
    with pytest.raises(UsageError, match="provisioner 'b': there is no script"):
        bench.run()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["A B", "1A", "A;id", ""])
def test_impossible_variables_are_refused(bench: Bench, name: str) -> None:
    bench.machine("one", Shell(name="a", inline="true", env={name: "x"}))
    with pytest.raises(UsageError, match="cannot be an environment variable"):
        bench.run()


def test_an_interruption_ends_the_script_in_the_guest(bench: Bench, tmp_path: Path, clean_interrupt: None) -> None:
    inline = f"echo $$ >{tmp_path}/pid.part; mv {tmp_path}/pid.part {tmp_path}/pid; sleep 1000; true"
    bench.machine("one", Shell(name="long", inline=inline))

    def stop() -> None:
        until((tmp_path / "pid").exists, Deadline.after(20), "the script to start")
        interrupt.request(signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(Interrupted):
        bench.run()
    interrupt.clear()
    process = (tmp_path / "pid").read_text().strip()
    until(lambda: not alive(process), Deadline.after(3), "the end of the script")
    assert not bench.server.left
    assert bench.needs("one") == ["long"]


def alive(process: str) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_an_interruption_is_quick(bench: Bench, clean_interrupt: None) -> None:
    bench.machine("one", Shell(name="long", inline="sleep 1000"))
    threading.Timer(1.0, interrupt.request).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        bench.run()
    assert time.monotonic() - started < 4
