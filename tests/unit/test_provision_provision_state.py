from __future__ import annotations

from pathlib import Path

import pytest

from vmctl import provision
from vmctl.errors import UsageError, VmctlError
from vmctl.layout import MachineLayout
from vmctl.provision import inputs, provision_state
from vmctl.spec import Ansible, BoxRef, MachineSpec, Run, Shell


def shell(name: str, inline: str = "true", run: Run = "once") -> Shell:
    return Shell(name=name, inline=inline, run=run)


def spec(*items: Shell | Ansible) -> MachineSpec:
    return MachineSpec(name="web", box=BoxRef(address="b"), provision=items)


@pytest.fixture
def layout(tmp_path: Path) -> MachineLayout:
    return MachineLayout(tmp_path)


def needed(
    layout: MachineLayout, *items: Shell | Ansible, force: bool = False, only: tuple[str, ...] = ()
) -> list[str]:
    return [item.name for item in provision.pending(spec(*items), layout, force=force, only=only)]


ITEMS = (shell("once"), shell("always", run="always"), shell("never", run="never"))


def test_a_new_machine_needs_all_but_never(layout: MachineLayout) -> None:
    assert needed(layout, *ITEMS) == ["once", "always"]
    assert not layout.provisioned.exists()


def test_what_succeeded_is_needed_again_only_when_it_says_always(layout: MachineLayout) -> None:
    for item in ITEMS:
        provision_state.mark(layout, item, inputs.digest(item))
    assert needed(layout, *ITEMS) == ["always"]


def test_changed_inputs_are_needed_and_just_those(layout: MachineLayout) -> None:
    for item in (shell("a"), shell("b")):
        provision_state.mark(layout, item, inputs.digest(item))
    assert needed(layout, shell("a"), shell("b", "false")) == ["b"]


def test_force_means_all_but_never(layout: MachineLayout) -> None:
    provision_state.mark(layout, ITEMS[0], inputs.digest(ITEMS[0]))
    assert needed(layout, *ITEMS, force=True) == ["once", "always"]


def test_names_mean_exactly_those_in_the_order_of_the_file(layout: MachineLayout) -> None:
    provision_state.mark(layout, ITEMS[0], inputs.digest(ITEMS[0]))
    assert needed(layout, *ITEMS, only=("never", "once")) == ["once", "never"]


def test_forgetting_starts_anew_and_twice_does_no_harm(layout: MachineLayout) -> None:
    provision_state.mark(layout, ITEMS[0], inputs.digest(ITEMS[0]))
    provision.forget(layout)
    provision.forget(layout)
    assert needed(layout, ITEMS[0]) == ["once"]


def test_only_playbooks_count_as_ansible(layout: MachineLayout, tmp_path: Path) -> None:
    provision_state.mark(layout, shell("a"), "0")
    assert not provision_state.has_had_ansible(layout)
    provision_state.mark(layout, Ansible(name="site", playbook=tmp_path / "site.yml"), "0")
    assert provision_state.has_had_ansible(layout)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"provisioners": {"a": {}}}', '{"provisioners": {"a": {"digest": 1}}}']
)
def test_a_damaged_record_is_an_error_with_a_way_out(layout: MachineLayout, text: str) -> None:
    layout.provisioned.write_text(text)
    with pytest.raises(VmctlError, match="is damaged") as caught:
        needed(layout, *ITEMS)
    assert str(layout.provisioned) in caught.value.hint


def test_the_record_is_private(layout: MachineLayout) -> None:
    provision_state.mark(layout, ITEMS[0], "0")
    assert layout.provisioned.stat().st_mode & 0o777 == 0o600


def test_unknown_names_are_refused() -> None:
    provision.check_names(ITEMS, ["once", "never"])
    with pytest.raises(UsageError, match="there is no provisioner 'onse', did you mean 'once'") as caught:
        provision.check_names(ITEMS, ["onse"])
    assert caught.value.hint == "provisioners of this project: once, always, never"
