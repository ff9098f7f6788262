from pathlib import Path

from vmctl.layout import MachineLayout
from vmctl.lifecycle.capacity import SPARE, Limits
from vmctl.lifecycle.machine_provisioning import lost_need, waves
from vmctl.spec import GIB, BoxRef, Condition, Dependency, MachineSpec
from vmctl.workspace import Machine

BOX = BoxRef(address="debian-12")


def machine(name: str, **needs: Condition) -> Machine:
    depends_on = tuple(Dependency(machine=other, until=until) for other, until in needs.items())
    spec = MachineSpec(name=name, box=BOX, depends_on=depends_on)
    return Machine(
        name=name, layout=MachineLayout(Path("/nowhere")), spec=spec, record=None,
        provider="fake", reason="", observed=None, domain="",
    )  # fmt: skip


def names(*machines: Machine) -> list[list[str]]:
    return [[one.name for one in wave] for wave in waves(machines)]


def test_one_wave_unless_somebody_waits_for_provisioning() -> None:
    assert names(machine("web", db="ready", cache="started"), machine("db"), machine("cache")) == [
        ["web", "db", "cache"]
    ]
    assert names() == []


def test_a_wave_begins_when_all_that_it_waits_for_is_provisioned() -> None:
    found = names(
        machine("d", c="ready", a="provisioned"), machine("c", b="provisioned"), machine("b", a="provisioned"),
        machine("a"), machine("e"),
    )  # fmt: skip
    assert found == [["a", "e"], ["b"], ["d", "c"]]


def test_machines_that_are_not_among_them_do_not_count() -> None:
    assert names(machine("web", db="provisioned")) == [["web"]]


def test_a_long_chain_is_no_trouble() -> None:
    until: Condition = "provisioned"
    chain = [machine(f"m{number}", **{f"m{number + 1}": until}) for number in range(300)]
    assert names(*chain)[0] == ["m299"]


def test_why_a_machine_can_not_begin() -> None:
    spec = machine("web", db="provisioned", cache="ready").spec
    assert lost_need(spec, [], []) == ""
    assert lost_need(spec, [], ["cache"]) == ""
    assert lost_need(spec, [], ["db"]) == "it waits for db to be provisioned"
    assert lost_need(spec, ["cache"], []) == "it depends on cache"


def test_memory_bounds_how_many_begin() -> None:
    spec = MachineSpec(name="web", box=BOX, memory=GIB)
    limits = Limits(memory=lambda: 2 * GIB + SPARE)
    assert limits.has_room(spec, [])
    assert limits.has_room(spec, [spec])
    assert not limits.has_room(spec, [spec, spec])
    assert Limits(memory=lambda: 0).has_room(spec, []), "one alone may always try"
    assert Limits(memory=lambda: 0, at_once=4).has_room(spec, [spec]), "a number that was said is obeyed"
    assert Limits(memory=lambda: None).has_room(spec, [spec])
    assert Limits(at_once=3).workers == 3
