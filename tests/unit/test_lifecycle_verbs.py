"""The order of the steps: what one needs, an earlier one of the same verb leaves."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from vmctl.layout import HomeLayout, MachineLayout
from vmctl.lifecycle import verbs
from vmctl.lifecycle.machine_job import Job, Step, StepMissing
from vmctl.spec import Project
from vmctl.workspace import Machine, Workspace

LEFT_BY = {"ground_box": "fetch_box", "defined": "define", "guest": "await_ssh"}
VERBS = {
    name: verb
    for name, verb in vars(verbs).items()
    if isinstance(verb, tuple) and verb and all(isinstance(step, Step) for step in verb)
}


@pytest.mark.parametrize("name", VERBS)
def test_a_step_comes_after_those_that_leave_what_it_needs(name: str) -> None:
    before: set[str] = set()
    for step in VERBS[name]:
        source = inspect.getsource(step.act)
        missing = [left for what, left in LEFT_BY.items() if f"job.{what}" in source and left not in before]
        assert missing == [], step.name
        before.add(step.name)


def test_a_step_that_lacks_another_is_an_internal_error_with_its_name(tmp_path: Path) -> None:
    project = Project(root=tmp_path, file=tmp_path / "Vmfile", machines=())
    machine = Machine(
        name="web", layout=MachineLayout(tmp_path), spec=None, record=None, provider="fake", reason="", observed=None,
        domain="",
    )  # fmt: skip
    job = Job(Workspace(project, HomeLayout(tmp_path)), machine)
    for what, left in LEFT_BY.items():
        with pytest.raises(StepMissing, match=left):
            getattr(job, what)
