from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from vmctl.errors import Interrupted, ProvisionFailed, Unreachable
from vmctl.layout import ProjectLayout
from vmctl.provision import provision_history
from vmctl.provision.failure import MachinesUnreachable, TasksFailed
from vmctl.provision.machine_hosts import MachineHosts
from vmctl.provision.summary import Counts, Failure, HostResult, Status, Summary
from vmctl.provision.target import Mode
from vmctl.spec import Project


@pytest.fixture
def layout(tmp_path: Path) -> ProjectLayout:
    return ProjectLayout(tmp_path / "state", tmp_path / ".vmctl")


def test_a_run_is_kept_with_its_end_and_one_that_was_killed_without(layout: ProjectLayout) -> None:
    first = provision_history.begin(layout, {"hosts": ["a"]})
    provision_history.begin(layout, {"hosts": ["b"]})
    provision_history.end(layout, first, {"result": "done"})
    answer = [(run["hosts"], run.get("result")) for run in provision_history.read(layout)]
    assert answer == [(["a"], "done"), (["b"], None)]
    assert layout.history.stat().st_mode & 0o777 == 0o600


def test_half_a_line_is_passed_over(layout: ProjectLayout) -> None:
    provision_history.begin(layout, {"hosts": ["a"]})
    with layout.history.open("a") as stream:
        stream.write('{"run": "x", "at": "20\n[]\nnull\n')
    provision_history.begin(layout, {"hosts": ["b"]})
    assert [run["hosts"] for run in provision_history.read(layout)] == [["a"], ["b"]]


def test_what_is_no_run_is_passed_over(layout: ProjectLayout) -> None:
    for damaged in ({"hosts": None}, {"provisioners": "x"}, {"machines": [1]}, {"machines": {"a": 1}}):
        provision_history.begin(layout, damaged)
    provision_history.begin(layout, {"hosts": ["b"], "machines": None})
    assert [run["hosts"] for run in provision_history.read(layout)] == [["b"]]


def test_a_name_may_hold_what_elsewhere_ends_a_line(layout: ProjectLayout) -> None:
    names = ["a\u2028b", "c\x85d", "e\x1cf"]
    run = provision_history.begin(layout, {"hosts": names})
    provision_history.end(layout, run, {"result": "failed"})
    assert [(run["hosts"], run["result"]) for run in provision_history.read(layout)] == [(names, "failed")]


def test_it_is_pruned(layout: ProjectLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision_history, "KEPT", 3)
    monkeypatch.setattr(provision_history, "SLACK", 2)
    for number in range(20):
        provision_history.end(layout, provision_history.begin(layout, {"number": number}), {"result": "done"})
        assert len(layout.history.read_text().splitlines()) <= 2 * (3 + 2) + 1
    assert [run["number"] for run in provision_history.read(layout)] == [17, 18, 19]
    assert all(run["result"] == "done" for run in provision_history.read(layout))


def kept(root: Path, run: object) -> dict[str, object]:
    """The record of one run, whatever it raises."""
    layout = ProjectLayout(root / "state", root / ".vmctl")
    host_set = MachineHosts(Project(root=root, file=root / "Vmfile", machines=()), (), layout)
    with contextlib.suppress(ProvisionFailed, Unreachable, Interrupted):
        provision_history.recorded(layout, host_set, {"a": ["site"], "b": ["site", "note"]}, Mode(), run)  # type: ignore[arg-type]
    return provision_history.read(layout)[-1]


def fail() -> Summary:
    answer = Failure(machines=("a",), brief="a: task failed", details="the password is hunter2", task="task")
    result = HostResult(counts=Counts(failed=1), failed="site", failure=answer)
    raise TasksFailed("a: task failed", Summary({"a": result}), details="the password is hunter2")


def unreachable() -> Summary:
    raise MachinesUnreachable("a: no route", Summary({"a": HostResult(status=Status.UNREACHABLE)}))


def interrupted() -> Summary:
    raise Interrupted


def test_how_a_run_ended(tmp_path: Path) -> None:
    done = kept(tmp_path, lambda: Summary({"a": HostResult(counts=Counts(ok=2, changed=1), ran=["site"])}))
    assert (done["result"], done["changed"], done["hosts"], done["provisioners"]) == (
        "done", True, ["a", "b"], ["site", "note"],
    )  # fmt: skip
    failed = kept(tmp_path, fail)
    assert (failed["result"], failed["why"]) == ("failed", "a: task failed")
    assert failed["machines"]["a"]["failure"] == {"brief": "a: task failed", "task": "task", "place": None}  # type: ignore[index]
    assert kept(tmp_path, unreachable)["result"] == "unreachable"
    assert kept(tmp_path, interrupted)["result"] == "interrupted"
    assert "hunter2" not in (tmp_path / "state" / "history").read_text()


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    assert provision_history.commit(tmp_path) == {"commit": None, "dirty": None}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    (tmp_path / "site.yml").write_text("[]")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    clean = provision_history.commit(tmp_path)
    assert (len(str(clean["commit"])), clean["dirty"]) == (40, False)
    (tmp_path / "site.yml").write_text("[1]")
    assert provision_history.commit(tmp_path) == {**clean, "dirty": True}
