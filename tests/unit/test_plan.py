from pathlib import Path
from typing import Any

import pytest

from vmctl.driver import Observed, State, Tag
from vmctl.layout import MachineLayout
from vmctl.lifecycle.plan import Action, Change, hardware, plan
from vmctl.spec import GIB, BoxRef, Effect, MachineSpec, Port
from vmctl.store.records import BoxUsed, Record
from vmctl.workspace import Machine

SPEC = MachineSpec(name="web", box=BoxRef(address="debian-12"))
TAG = Tag(project="p", machine="web", version="1")


def machine(state: State | None, *, spec: MachineSpec = SPEC, **record: Any) -> Machine:
    observed = Observed(state=state, tag=TAG, run="7") if state else None
    remembered = Record(
        name="d", project="p", machine="web", provider="fake", version="1", user="u",
        box=BoxUsed(name="debian-12", version="1", digest="0", user="u"), **{"applied": hardware(SPEC), **record},
    )  # fmt: skip
    return Machine(
        name="web", layout=MachineLayout(Path("/nowhere")), spec=spec, record=remembered,
        provider="fake", reason="", observed=observed, domain="d",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (None, Action.CREATE),
        (State.STOPPED, Action.START),
        (State.CRASHED, Action.START),
        (State.SAVED, Action.RESUME),
        (State.PAUSED, Action.RESUME),
        (State.RUNNING, Action.FINISH),
    ],
)
def test_the_action_follows_from_the_state(state: State | None, action: Action) -> None:
    assert plan(machine(state)).action is action


def test_a_machine_that_was_finished_in_this_run_needs_nothing() -> None:
    assert plan(machine(State.RUNNING, ready_run="7")).action is Action.NOTHING
    assert plan(machine(State.RUNNING, ready_run="6")).action is Action.FINISH


def test_changed_fields_say_what_they_need() -> None:
    changed = MachineSpec(name="web", box=BoxRef(address="alpine"), memory=2 * GIB, ports=(Port(guest=80, host=None),))
    assert plan(machine(State.RUNNING, spec=changed)).changes == (
        Change("box", "debian-12", "alpine", Effect.RECREATE),
        Change("memory", GIB, 2 * GIB, Effect.RELOAD),
        Change("ports", [], ["127.0.0.1:auto:80/tcp"], Effect.RELOAD),
    )


def test_what_changed_while_a_machine_was_off_comes_with_its_start() -> None:
    changed = MachineSpec(name="web", box=BoxRef(address="alpine"), memory=2 * GIB)
    expected = [("box", Effect.RECREATE), ("memory", Effect.UP)]
    for state in (State.STOPPED, State.CRASHED):
        assert [(one.field, one.effect) for one in plan(machine(state, spec=changed)).changes] == expected
    suspended = plan(machine(State.SAVED, spec=changed))
    assert suspended.with_effect(Effect.RELOAD) == ("memory",), "it goes on with the hardware that it had"


def test_a_machine_that_does_not_exist_has_no_changes() -> None:
    changed = MachineSpec(name="web", box=BoxRef(address="alpine"))
    assert plan(machine(None, spec=changed)).changes == ()


def test_a_field_that_an_older_vmctl_did_not_record_is_no_change() -> None:
    assert plan(machine(State.RUNNING, applied={"cpus": 2})).changes == ()
