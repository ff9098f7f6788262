from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmctl.layout import ProjectLayout
from vmctl.provision.ansible_events import PlayRecap, TaskFailure
from vmctl.provision.failure import error
from vmctl.provision.machine_hosts import MachineHosts
from vmctl.provision.provisioner_result import judge
from vmctl.provision.summary import Counts, HostResult, Summary
from vmctl.spec import Ansible, Project

ITEM = Ansible(name="site", playbook=Path("site.yml"))
ROOT = Path("/p")
LAYOUT = ProjectLayout(ROOT / "state", ROOT / ".vmctl")
HOST_SET = MachineHosts(Project(root=ROOT, file=ROOT / "Vmfile", machines=()), (), LAYOUT)


def event(kind: str, host: str = "", play: str = "1", **data: Any) -> dict[str, Any]:
    return {"event": kind, "event_data": {"host": host, "play_uuid": play, **data}}


def failed(host: str, play: str = "1", **result: Any) -> dict[str, Any]:
    place = {"task": "install", "task_path": "/p/site.yml:7", "res": {"msg": "it broke", **result}}
    return event("runner_on_failed", host, play, **place)


def begun(*hosts: str, play: str = "1") -> list[dict[str, Any]]:
    return [event("runner_on_start", host, play) for host in hosts]


def stats(**counts: dict[str, int]) -> dict[str, Any]:
    return {"event": "playbook_on_stats", "event_data": counts}


def recap(*events: dict[str, Any]) -> PlayRecap:
    found = PlayRecap()
    for item in events:
        found.add(item)
    return found


def test_counts_come_from_the_statistics() -> None:
    answer = stats(ok={"a": 3}, changed={"a": 1}, skipped={"a": 2}, processed={"a": 1, "b": 1}, dark={"b": 1})
    assert recap(answer).counts == {"a": Counts(ok=3, changed=1, skipped=2), "b": Counts(unreachable=1)}


def test_without_statistics_there_are_no_counts() -> None:
    assert recap(*begun("a")).counts is None


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({}, "it broke"),
        ({"stderr": "line one\nline two\n"}, "it broke\nline one\nline two"),
        ({"stdout": "said"}, "it broke\nsaid"),
        ({"msg": "has said", "stderr": "said"}, "has said"),
        ({"msg": ""}, "no message"),
        ({"results": [{"item": "x"}, {"item": "y", "failed": True, "msg": "no y"}]}, "item 'y': no y"),
    ],
)
def test_a_failure_carries_what_the_module_said(result: dict[str, Any], message: str) -> None:
    assert recap(failed("a", **result)).failures["a"] == TaskFailure(
        task="install", place="/p/site.yml:7", message=message
    )


def test_changes_are_kept_by_host_with_their_place() -> None:
    changed: dict[str, Any] = {"task": "install", "role": "web", "task_path": "/p/site.yml:7", "res": {"changed": True}}
    found = recap(event("runner_on_ok", "a", **changed), event("runner_on_ok", "a", task="look", res={}))
    assert found.changes == {"a": ["web : install (/p/site.yml:7)"]}


def test_ignored_failures_do_not_count() -> None:
    ignored = failed("a")
    ignored["event_data"]["ignore_errors"] = True
    assert recap(ignored).failures == {}


def test_errors_are_kept_without_colours_and_warnings() -> None:
    stated = [
        {"event": "warning", "stdout": "[WARNING]: careful"},
        {"event": "error", "stdout": "\x1b[0;31m[ERROR]: bad\x1b[0m\r\n\r\n"},
        {"event": "verbose", "stdout": "Traceback"},
    ]
    assert list(recap(*stated).errors) == ["[ERROR]: bad", "Traceback"]


def machines(found: PlayRecap, *names: str) -> dict[str, str]:
    """Machine → what was held against it."""
    return {
        outcome.machine: outcome.failure.brief if outcome.failure else ""
        for outcome in judge(ITEM, names, found, HOST_SET)
    }


def test_one_host_failing_does_not_concern_the_other() -> None:
    found = recap(*begun("a", "b"), failed("a"), stats(ok={"b": 1}, failures={"a": 1}))
    assert machines(found, "a", "b") == {
        "a": "a: task 'install' failed at /p/site.yml:7 (provisioner 'site')", "b": "",
    }  # fmt: skip


def test_all_hosts_of_one_play_failing_cuts_the_others_short() -> None:
    found = recap(*begun("a"), failed("a"), stats(failures={"a": 1}, ok={"b": 1}))
    assert machines(found, "a", "b")["b"] == "b: provisioner 'site' did not finish"


def test_a_play_in_which_all_were_rescued_cuts_nothing_short() -> None:
    found = recap(*begun("a"), failed("a"), stats(rescued={"a": 1}, ok={"a": 2, "b": 1}))
    assert machines(found, "a", "b") == {"a": "", "b": ""}


def test_ansible_giving_up_is_believed() -> None:
    gave_up = event("playbook_on_no_hosts_remaining")
    found = recap(*begun("a", "b"), failed("a"), gave_up, stats(failures={"a": 1}, ok={"b": 1}))
    assert machines(found, "b") == {"b": "provisioner 'site' failed on a"}
    assert machines(found, "a", "b")["b"] == "b: provisioner 'site' did not finish"


def play(pattern: str, name: str = "") -> dict[str, Any]:
    return event("playbook_on_play_start", pattern=pattern, name=name or pattern)


def test_a_batch_that_fails_altogether_ends_the_playbook_for_those_before_and_after_it() -> None:
    batches = [play("all"), *begun("a"), play("all"), *begun("b"), failed("b")]
    found = recap(*batches, stats(ok={"a": 1}, failures={"b": 1}))
    rest = "a, c: provisioner 'site' did not finish"
    assert machines(found, "a", "b", "c") == {
        "a": rest, "b": "b: task 'install' failed at /p/site.yml:7 (provisioner 'site')", "c": rest,
    }  # fmt: skip


def test_a_failure_that_is_fatal_for_all_leaves_nobody_done() -> None:
    answer = failed("b")
    answer["event_data"]["fatal"] = True
    found = recap(play("all"), *begun("a", "b"), answer, stats(ok={"a": 1}, failures={"b": 1}))
    assert machines(found, "a", "b")["a"] == "a: provisioner 'site' did not finish"
    rescued = recap(play("all"), *begun("a", "b"), answer, stats(ok={"a": 1, "b": 2}, rescued={"b": 1}))
    assert machines(rescued, "a", "b") == {"a": "", "b": ""}


def test_ansible_failing_of_no_host_is_a_failure() -> None:
    nothing = {"event": "error", "stdout": '[ERROR]: No matching task "nope" found.'}
    failure = judge(ITEM, ["a"], recap(play("all"), stats(), nothing), HOST_SET)[0].failure
    assert failure is not None
    assert failure.details == '[ERROR]: No matching task "nope" found.'
    broken = recap(play("all"), *begun("a"), stats(ok={"a": 1}))
    broken.status = 4
    assert "could not run site.yml" in machines(broken, "a")["a"]


def test_a_host_that_was_added_and_got_no_play_is_a_failure_that_names_it() -> None:
    added = event("runner_on_ok", "a", res={"add_host": {"host_name": "fresh", "groups": ["made"]}, "changed": True})
    skipped = [play("made", "set it up"), event("playbook_on_no_hosts_matched")]
    found = recap(play("all"), *begun("a"), added, *skipped, stats(ok={"a": 1}))
    (outcome,) = judge(ITEM, ["a"], found, HOST_SET)
    assert outcome.failure is not None
    assert outcome.failure.brief == "provisioner 'site': no play ran on fresh, which the playbook added (add_host)"
    assert "'set it up' (hosts: made)" in outcome.failure.details
    reached = recap(play("all"), *begun("a"), added, *skipped, stats(ok={"a": 1, "fresh": 1}))
    assert machines(reached, "a") == {"a": ""}


def test_a_failure_on_no_machine_is_everybodys() -> None:
    found = recap(failed("localhost"), stats(failures={"localhost": 1}, ok={"a": 1}))
    assert set(machines(found, "a", "b").values()) == {"provisioner 'site' failed on localhost"}


def test_no_statistics_fail_all_machines_for_one_reason() -> None:
    outcomes = judge(ITEM, ["a", "b"], recap({"event": "error", "stdout": "[ERROR]: no such role"}), HOST_SET)
    assert {outcome.failure.details for outcome in outcomes if outcome.failure} == {"[ERROR]: no such role"}
    assert outcomes[0].failure is outcomes[1].failure


def test_unreachable_is_not_failed() -> None:
    lost = event("runner_on_unreachable", "a", task="x", res={"msg": "refused"})
    (outcome,) = judge(ITEM, ["a"], recap(*begun("a"), lost, stats(dark={"a": 1})), HOST_SET)
    assert outcome.failure is not None
    assert outcome.failure.unreachable
    assert "refused" in outcome.failure.details


def test_what_follows_from_an_unreachable_host_is_not_worse_than_that() -> None:
    lost = event("runner_on_unreachable", "a", task="x", res={"msg": "refused"})
    outcomes = judge(ITEM, ["a", "b"], recap(*begun("a"), lost, stats(dark={"a": 1}, ok={"b": 1})), HOST_SET)
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    assert [(one.unreachable, one.follows) for one in failures] == [(True, False), (False, True)]
    assert error(failures, Summary({"a": HostResult(), "b": HostResult()}), HOST_SET).exit_code == 5


def test_the_first_failure_is_told_beside_that_of_the_clean_up() -> None:
    cleaning = event("runner_on_failed", "a", task="clean up", task_path="/p/site.yml:9", res={"msg": "no such file"})
    (outcome,) = judge(ITEM, ["a"], recap(*begun("a"), failed("a"), cleaning, stats(failures={"a": 2})), HOST_SET)
    assert outcome.failure is not None
    assert outcome.failure.task == "clean up"
    assert outcome.failure.details == "no such file\nFailed first: task 'install' (/p/site.yml:7): it broke"
