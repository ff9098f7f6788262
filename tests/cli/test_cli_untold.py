"""Machines whose hypervisor cannot tell of them now: unknown, and nothing is done that takes them for absent."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.cli.harness import Project
from vmctl.driver import UNTOLD, Definition, Observed, State
from vmctl.errors import Unreachable
from vmctl.testing import FakeDriver

AWAY = Observed(state=State.UNKNOWN, tag=UNTOLD, raw="member b does not answer")


@pytest.fixture
def half(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two machines, one of which got out of reach; the hypervisor has a spelling of its own for its name."""
    project.vmfile("machines: {web: {}, db: {}}\n")
    project.vmctl("up")
    states, observe = FakeDriver.states, FakeDriver.observe

    def some(self: FakeDriver) -> Mapping[str, Observed]:
        return {name: seen for name, seen in states(self).items() if "-web-" not in name} | {"other": AWAY}

    def one(self: FakeDriver, name: str) -> Observed | None:
        return AWAY if "-web-" in name else observe(self, name)

    def refuse(_self: FakeDriver, definition: Definition) -> None:
        if "-web-" in definition.name:
            raise Unreachable("web is on a member that does not answer")

    monkeypatch.setattr(FakeDriver, "states", some)
    monkeypatch.setattr(FakeDriver, "observe", one)
    monkeypatch.setattr(FakeDriver, "check", refuse)
    return project


def test_it_is_told_as_unknown(half: Project) -> None:
    assert half.states() == {"web": "unknown (member b does not answer)", "db": "running"}
    assert half.vmctl("status", "web", "--json").answer["machines"][0]["state"] == AWAY.state.value + f" ({AWAY.raw})"
    rows = half.vmctl("list", "--json").answer["machines"]
    assert {row["name"]: row["state"] for row in rows} == {"web": "unknown", "db": "running"}


def test_it_is_not_made_again_not_even_where_the_record_is_lost(half: Project) -> None:
    assert "web is on a member that does not answer" in half.vmctl("up", "web", "db", status=None).err
    half.layout.machine("web").record.unlink()
    assert "vmctl has lost its record of machine web" in half.vmctl("up", "web", "db", status=None).err
