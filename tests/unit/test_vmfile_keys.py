"""A key that is described in one place is read, checked, shown, planned for and documented everywhere."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from msgspec import structs

from vmctl import vmfile
from vmctl.lifecycle import plan
from vmctl.spec import Effect, MachineSpec
from vmctl.vmfile import VmfileInvalid, keys, loading, manual
from vmctl.vmfile.described_key import Key
from vmctl.vmfile.kinds import choice

MANUAL = Path(__file__).parents[2] / "docs" / "vmfile.md"
BEGIN, END = "<!-- keys: written by the test suite, see CONTRIBUTING.md -->\n", "<!-- end of keys -->\n"


class Watched(MachineSpec, frozen=True, kw_only=True):
    """A machine with one attribute more."""

    watchdog: str = "reset"


@pytest.fixture
def further_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key ``watchdog_action``, as somebody would add it: an entry of the table, and an attribute for its value."""
    added = Key(
        choice("reset", "poweroff"), "What happens when the guest hangs.", default="reset", attribute="watchdog",
        where="project", effect=Effect.RELOAD, record=str.upper, holds="word", more="Needs a driver in the guest.",
    )  # fmt: skip
    monkeypatch.setitem(keys.MACHINE, "watchdog_action", added)
    monkeypatch.setattr(loading, "MachineSpec", Watched)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "Vmfile"
    path.write_text(text)
    return path


@pytest.mark.usefixtures("further_key")
def test_a_key_is_added_in_one_place(tmp_path: Path) -> None:
    path = write(tmp_path, "box: debian-12\nmachines:\n  web: {watchdog_action: poweroff}\n  db:\n")
    project = vmfile.load(path, environ={})
    web, db = project.machines
    assert isinstance(web, Watched)
    assert isinstance(db, Watched)
    assert (web.watchdog, db.watchdog) == ("poweroff", "reset")

    shown = vmfile.effective(project)["machines"]
    assert (shown["web"]["watchdog_action"], shown["db"]["watchdog_action"]) == ("poweroff", "reset")
    assert vmfile.origins(project)["machines.web.watchdog_action"].endswith("Vmfile:3")

    applied = plan.hardware(db)
    assert applied["watchdog_action"] == "RESET"
    changed = structs.replace(db, watchdog="poweroff")
    assert plan.changes(applied, changed) == (plan.Change("watchdog_action", "RESET", "POWEROFF", Effect.RELOAD),)

    row = "| `watchdog_action` | word | `reset` | What happens when the guest hangs. Needs a driver in the guest. |"
    assert row in manual.table()


@pytest.mark.usefixtures("further_key")
def test_the_schema_has_the_key_that_was_added() -> None:
    schema = vmfile.schema()
    assert schema["$defs"]["watchdog_action"]["default"] == "reset"
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"box": "a", "watchdog_action": "reset"})
    assert not validator.is_valid({"box": "a", "machines": {"web": {"watchdog_action": "explode"}}})


@pytest.mark.usefixtures("further_key")
def test_what_is_wrong_with_the_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(VmfileInvalid, match="Vmfile:2:18: watchdog_action: expected one of reset, poweroff"):
        vmfile.load(write(tmp_path, "box: debian-12\nwatchdog_action: explode\n"), environ={})
    with pytest.raises(VmfileInvalid, match="did you mean 'watchdog_action'"):
        vmfile.load(write(tmp_path, "box: debian-12\nwatchdog_acton: reset\n"), environ={})


def test_every_key_of_machines_has_its_attribute() -> None:
    attributes = {one.attribute or key for key, one in keys.MACHINE.items() if one.write}
    own = {"name", "box_alias", "box_alias_by", "group", "index", "options", "places"}
    assert attributes == set(MachineSpec.__struct_fields__) - own


def test_the_manual_has_the_table_of_keys(request: pytest.FixtureRequest) -> None:
    text = MANUAL.read_text()
    before, rest = text.split(BEGIN)
    current, after = rest.split(END)
    if request.config.getoption("--regenerate"):
        MANUAL.write_text(before + BEGIN + manual.table() + END + after)
    else:
        assert current == manual.table()
