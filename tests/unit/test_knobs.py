"""What providers declare of their sections: read, checked and told to editors like vmctl's own keys."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from vmctl import knobs, registry, vmfile
from vmctl.errors import UsageError
from vmctl.spec import BoxRef, MachineSpec, SourceLocation
from vmctl.vmfile.provider_keys import fields

DOCS = Path(__file__).parents[2] / "docs"
MODULE = """
from typing import Annotated
from msgspec import Struct
from vmctl.knobs import Field, ListOf, choice, text, whole

class Knobs(Struct, frozen=True, kw_only=True):
    speed: Annotated[str, Field(choice("slow", "fast"), "How it turns.")] = "slow"
    spare: Annotated[int, Field(whole(0, 9), "How many more.")] = 1
    racks: Annotated[tuple[str, ...], Field(ListOf(text()), "Where it may be.")] = ()
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed provider ``carousel``, which declares its knobs."""
    site = tmp_path / "site"
    info = site / "carousel-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carousel\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[vmctl.providers]\ncarousel = carousel_provider:Driver\n[vmctl.knobs]\ncarousel = carousel_provider:Knobs\n"
    )
    (site / "carousel_provider.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "carousel_provider", raising=False)
    return site


def load(tmp_path: Path, section: str) -> Any:
    path = tmp_path / "Vmfile"
    path.write_text(f"box: debian-12\ncarousel: {section}\n")
    return vmfile.load(path, environ={})


@pytest.mark.usefixtures("plugin")
def test_a_plug_ins_knobs_are_read_as_they_are_written(tmp_path: Path) -> None:
    (spec,) = load(tmp_path, "{speed: fast, racks: [a, \"{{ 'b' ~ 1 }}\"], spare: null}").machines
    assert spec.options == {"carousel": {"speed": "fast", "racks": ["a", "b1"], "spare": None}}
    declared = registry.knobs("carousel")
    assert declared is not None
    read: Any = knobs.read(declared, spec.options["carousel"])
    assert (read.speed, read.spare, read.racks) == ("fast", 1, ("a", "b1"))


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{sped: fast}", "Vmfile:2:12: carousel.sped: unknown key, did you mean 'speed'?"),
        ("{colour: red}", "Vmfile:2:12: carousel.colour: unknown key; known: speed, spare, racks"),
        ("{speed: flat}", "Vmfile:2:19: carousel.speed: expected one of slow, fast; got 'flat'"),
        ("{spare: 12}", "Vmfile:2:19: carousel.spare: 12 is not between 0 and 9"),
        ("{racks: [a, 1]}", "Vmfile:2:23: carousel.racks.1: expected text, got the number 1; quote it to make it text"),
    ],
)
def test_a_wrong_knob_of_a_plug_in_is_a_fault_with_its_place(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(vmfile.VmfileInvalid, match=re.escape(message)):
        load(tmp_path, section)


@pytest.mark.usefixtures("plugin")
def test_the_schema_knows_a_plug_ins_knobs() -> None:
    schema = vmfile.schema()
    found = schema["$defs"]["carousel"]["properties"]
    assert found["speed"]["description"] == "How it turns."
    assert found["speed"]["default"] == "slow"
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"box": "a", "carousel": {"speed": "fast", "spare": None}})
    assert not validator.is_valid({"box": "a", "carousel": {"speed": "flat"}})
    assert not validator.is_valid({"box": "a", "machines": {"web": {"carousel": {"sped": "fast"}}}})


def test_a_plug_in_that_declares_nothing_or_cannot_be_loaded_checks_for_itself(tmp_path: Path, plugin: Path) -> None:
    (plugin / "carousel_provider.py").unlink()
    assert registry.knobs("carousel") is None
    (spec,) = load(tmp_path, "{colour: red}").machines
    assert spec.options == {"carousel": {"colour": "red"}}
    assert vmfile.schema()["$defs"]["carousel"]["type"] == "object"


@pytest.mark.parametrize("provider", registry.BUILT_IN)
def test_the_manual_has_every_knob(provider: str) -> None:
    declared = registry.knobs(provider)
    assert declared is not None
    manual = (DOCS / f"{provider}.md").read_text()
    for name, field in fields(declared).items():
        assert f"`{name}`" in manual or re.search(rf"^  {name}:", manual, re.MULTILINE), name
        assert field.doc.endswith("."), name
    assert jsonschema.Draft202012Validator(vmfile.schema()).is_valid(
        {"box": "a", provider: dict.fromkeys(fields(declared))}
    )


@pytest.mark.parametrize("provider", registry.BUILT_IN)
def test_the_manuals_examples_are_valid(provider: str, tmp_path: Path) -> None:
    for text in re.findall(r"```yaml\n(.*?)```", (DOCS / f"{provider}.md").read_text(), re.DOTALL):
        path = tmp_path / "Vmfile"
        path.write_text(text if text.startswith("box:") else f"box: debian-12\n{text}")
        vmfile.load(path, environ={})


def test_a_fault_in_part_of_a_value_is_told_where_the_value_was_written() -> None:
    place = SourceLocation(file="Vmfile", line=3, column=5)
    spec = MachineSpec(name="web", box=BoxRef(address="a"), places={"carousel": place})
    error = knobs.refusal(spec, [knobs.Fault("carousel.racks", "too far")])
    assert isinstance(error, UsageError)
    assert error.brief == "Vmfile:3:5: machines.web.carousel.racks: too far"
