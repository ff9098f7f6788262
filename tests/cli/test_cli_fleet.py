"""Several machines: who waits for whom, how many at once, and what becomes of the others when one fails."""

from __future__ import annotations

import time
from pathlib import Path

from tests.cli.harness import Project, Ran

PROVISION = "provision: [{shell: {inline: '%s', become: false}, name: note}]\n"


def order(ran: Ran, *steps: str) -> list[str]:
    """Which steps began, in order; of provisioning, with its text."""
    rows = [event for event in ran.events("step-started") if event["step"] in steps]
    return [f"{row['machine']} {row['step']}" if row["machine"] else row["text"] for row in rows]


def test_a_machine_comes_up_after_another_was_provisioned(project: Project) -> None:
    project.vmfile(
        "machines:\n  web: {depends_on: {db: provisioned}}\n  db: {}\n  cache: {}\n"
        "  worker: {depends_on: {web: provisioned}}\n" + PROVISION % "true"
    )
    ran = project.vmctl("up", "web", "worker", "--json")
    assert order(ran, "start", "provision") == [
        "db start", "running note on db", "web start", "running note on web", "worker start", "running note on worker",
    ]  # fmt: skip
    assert set(ran.answer["provisioned"]["machines"]) == {"db", "web", "worker"}
    assert project.vmctl("up", "worker", "--json").answer["changed"] is False
    again = project.vmctl("provision", "web", "db", "--json")
    assert order(again, "provision") == ["running note on db", "running note on web"]


def test_without_provisioning_nobody_waits_for_it(project: Project) -> None:
    project.vmfile("machines: {web: {depends_on: {db: provisioned}}, db: {}}\n" + PROVISION % "exit 1")
    project.vmctl("up", "--no-provision")
    assert project.states() == {"web": "running", "db": "running"}


def test_started_is_enough_where_the_vmfile_says_so(project: Project) -> None:
    project.vmfile(
        "machines:\n  web: {depends_on: {db: started}}\n"
        "  db: {ready: [{command: 'test -e %s', timeout: 30}]}\n"
        % (project.root / "web-is-up")
        + f"  last: {{depends_on: [db], ready: [{{command: 'test -e {project.root}/web-is-up'}}]}}\n"
        f"provision: [{{shell: {{inline: 'true'}}, run: never}}]\n"
    )
    # db becomes ready only once web is: with `ready` this would wait for ever
    vmfile = (project.root / "Vmfile").read_text()
    touch = f"ready: [{{command: 'touch {project.root}/web-is-up'}}]"
    (project.root / "Vmfile").write_text(vmfile.replace("{db: started}", "{db: started}, " + touch))
    ran = project.vmctl("up", "--json")
    assert order(ran, "start") == ["db start", "web start", "last start"]


def test_what_failed_provisioning_holds_up_only_who_waits_for_it(project: Project) -> None:
    project.vmfile(
        "machines:\n  tail: {depends_on: [web]}\n  web: {depends_on: {db: provisioned}}\n"
        "  db: {provision: [{shell: {inline: exit 3}, name: break}]}\n"
        "  api: {depends_on: [db]}\n"
    )
    ran = project.vmctl("up", "--json", status=4)
    assert ran.answer["outcome"] == {
        "db": {"result": "done"},
        "api": {"result": "done"},
        "web": {"result": "not attempted", "because": "it waits for db to be provisioned"},
        "tail": {"result": "not attempted", "because": "it depends on web"},
    }
    assert ran.answer["provisioned"]["machines"]["db"]["status"] == "failed"
    assert ran.answer["brief"] == "provisioning failed on db; 2 of 4 machines were not attempted"
    assert "the script ended with status 3" in ran.answer["details"]
    assert project.states() == {"web": "not created", "db": "running", "api": "running", "tail": "not created"}


def test_one_fails_and_the_independent_ones_are_up_and_provisioned(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    project.vmfile(
        "machines:\n  web: {depends_on: [db]}\n  db: {ready: [{command: 'echo no; exit 1', timeout: 1}]}\n  cache: {}\n"
        + PROVISION % f"echo ran >> {log}"
    )
    ran = project.vmctl("up", "--json", status=1)
    assert ran.answer["outcome"]["web"] == {"result": "not attempted", "because": "it depends on db"}
    assert ran.answer["outcome"]["db"]["result"] == "failed"
    assert ran.answer["outcome"]["cache"] == {"result": "done"}
    assert ran.answer["provisioned"]["machines"]["cache"]["ran"] == ["note"]
    assert log.read_text() == "ran\n"
    assert "no" in ran.answer["details"].splitlines()


def test_fail_fast_begins_nothing_new(project: Project) -> None:
    project.vmfile(
        "parallel: 1\nmachines:\n  db: {ready: [{command: 'false', timeout: 1}]}\n  cache: {}\n" + PROVISION % "true"
    )
    ran = project.vmctl("up", "--fail-fast", "--json", status=1)
    assert ran.answer["outcome"]["cache"] == {"result": "not attempted", "because": "db failed before it"}
    assert "provisioned" not in ran.answer
    assert project.states() == {"db": "running", "cache": "not created"}


def test_how_many_at_once_is_said_by_the_vmfile_and_the_command_line(project: Project) -> None:
    log = project.root / "log"
    check = f"echo begin >> {log}; sleep 0.3; echo end >> {log}"
    text = f"machines: {{a: {{}}, b: {{}}, c: {{}}}}\nready: [{{command: '{check}'}}]\n"
    project.vmfile("parallel: 1\n" + text)
    project.vmctl("up")
    assert log.read_text() == "begin\nend\n" * 3
    log.unlink()
    project.vmctl("reload", "--parallel", "3")
    assert log.read_text() != "begin\nend\n" * 3
    project.vmctl("up", "--parallel", "0", status=2)


def test_up_without_names_leaves_machines_alone_that_do_not_start_by_themselves(project: Project) -> None:
    project.vmfile("machines: {web: {}, tools: {autostart: false}, extra: {autostart: false}}\n")
    assert [row["name"] for row in project.vmctl("plan", "--json").answer["machines"]] == ["web"]
    project.vmctl("up")
    project.vmctl("status", "--check")
    project.vmctl("status", "tools", "--check", status=3)
    project.vmctl("up", "tools")
    project.vmctl("reload")
    assert project.states() == {"web": "running", "tools": "running", "extra": "not created"}
    project.vmctl("halt")
    assert project.states() == {"web": "stopped", "tools": "stopped", "extra": "not created"}


def test_a_project_in_which_nothing_starts_by_itself(project: Project) -> None:
    project.vmfile("autostart: false\nmachines: {web: {}, db: {}}\n")
    assert project.vmctl("up").out == "no machine starts by itself\n"
    project.vmctl("up", "web")
    assert project.states() == {"web": "running", "db": "not created"}


def test_the_primary_machine_is_meant_when_none_is_named(project: Project) -> None:
    project.vmfile("machines: {web: {}, db: {primary: true}}\n")
    project.vmctl("up")
    assert project.vmctl("ssh", "-c", "true", "--json").answer["status"] == 0
    project.vmctl("halt", "db")
    assert "machine db is stopped" in project.vmctl("ssh", "-c", "true", status=3).err


def test_for_each_makes_machines_that_differ(project: Project) -> None:
    project.vmfile(
        "vars: {sites: {eu: {memory: 1GiB}, us: {memory: 2GiB}}}\nmachines:\n"
        "  web: {for_each: '{{ vars.sites }}', memory: '{{ each.value.memory }}', hostname: 'www-{{ each.key }}'}\n"
        "  proxy: {depends_on: [web], for_each: [a]}\n"
    )
    data = project.vmctl("config", "--json").answer["machines"]
    assert {name: row["memory"] for name, row in data.items()} == {
        "web-eu": "1GiB",
        "web-us": "2GiB",
        "proxy-a": "1GiB",
    }
    assert data["web-us"]["hostname"] == "www-us"
    assert data["proxy-a"]["depends_on"] == ["web-eu", "web-us"]


def test_ready_checks_say_what_they_saw(project: Project) -> None:
    project.vmfile("ready: [{http: 'http://127.0.0.1:1/', timeout: 1, hint: look at the log}]\n")
    ran = project.vmctl("up", status=1)
    assert "timed out waiting for http://127.0.0.1:1/ to answer in default" in ran.err
    assert "onnect" in ran.err
    assert "hint: look at the log" in ran.err


def test_a_no_op_up_of_many_waves_is_quick(project: Project) -> None:
    machines = "".join(f"  m{number}: {{depends_on: {{m{number - 1}: provisioned}}}}\n" for number in range(1, 4))
    project.vmfile(f"machines:\n  m0: {{}}\n{machines}" + PROVISION % "true")
    project.vmctl("up")
    started = time.monotonic()
    assert project.vmctl("up", "--json").answer["changed"] is False
    assert time.monotonic() - started < 2
