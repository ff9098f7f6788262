"""The schema and the validator are held together: by every bad and every good Vmfile, and key by key."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.unit.vmfile_cases import Bad, bad, values
from vmctl import registry, vmfile
from vmctl.vmfile.keys import COUNT, MACHINE
from vmctl.vmfile.provider_keys import fields
from vmctl.vmfile.structures import Field, TableOf
from vmctl.vmfile.top_keys import TOP_ONLY

SCHEMA = vmfile.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
ROOT = Path(__file__).parents[2]


def test_it_is_a_json_schema_2020_12() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("case", [case for case in bad() if case.note != "not YAML"], ids=lambda case: case.name)
def test_it_rejects_what_the_validator_rejects(case: Bad) -> None:
    beyond = case.note == "beyond schema"
    assert VALIDATOR.is_valid(values(case.text)) == beyond


def good() -> Iterator[Path]:
    yield ROOT / "Vmfile.example"
    yield from sorted((ROOT / "tests" / "data" / "vmfile_good").glob("*.yml"))
    yield from sorted((ROOT / "examples").glob("*/Vmfile"))


@pytest.mark.parametrize("path", list(good()), ids=lambda path: str(path.relative_to(ROOT)))
def test_it_accepts_what_the_validator_accepts(path: Path) -> None:
    VALIDATOR.validate(values(path.read_text()))


def test_the_keys_of_the_top_level_and_of_a_machine_are_the_validators() -> None:
    providers = {"libvirt", "virtualbox"}
    assert set(SCHEMA["properties"]) - {"machines"} >= {*MACHINE, *TOP_ONLY} | providers
    assert set(SCHEMA["$defs"]["machine"]["properties"]) >= {*MACHINE, "count", "for_each"} | providers
    extra = set(SCHEMA["$defs"]["machine"]["properties"]) - {*MACHINE, "count", "for_each"}
    assert all(SCHEMA["$defs"][name]["type"] == "object" for name in extra)


def records(kind: Any, path: str) -> Iterator[tuple[str, TableOf]]:
    """Every record that the validator reads, however deep."""
    if isinstance(kind, TableOf):
        yield path, kind
        for key, field in kind.fields.items():
            yield from records(field.kind, f"{path}.{key}")
    for name in ("item", "short", "long", "kind"):
        if hasattr(kind, name):
            yield from records(getattr(kind, name), path)


ALL_FIELDS: dict[str, Field] = {**MACHINE, **TOP_ONLY, "count": COUNT}
RECORDS = [found for key, field in ALL_FIELDS.items() for found in records(field.kind, key)]


def test_every_record_is_found() -> None:
    names = {"synced_folders", "ports", "networks", "ready", "provision", "provision.shell", "provision.ansible",
             "provision.ansible.groups", "provision.file", "provision.reboot"}  # fmt: skip
    names |= {"triggers", "triggers.run", "test", "test.verify"}
    names |= {"remotes", "remotes.hosts", "cache"}
    assert {path for path, _ in RECORDS} == names


def objects(schema: Any) -> Iterator[frozenset[str]]:
    """The keys of every object with known keys in the schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield frozenset(schema["properties"])
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_every_record_of_the_validator_is_in_the_schema_and_back() -> None:
    common = frozenset(SCHEMA["properties"]), frozenset(SCHEMA["$defs"]["machine"]["properties"])
    in_schema = set(objects(SCHEMA)) - set(common)
    of_providers = {frozenset(fields(declared)) for name in registry.BUILT_IN if (declared := registry.knobs(name))}
    assert in_schema == {frozenset(record.fields) for _, record in RECORDS} | of_providers


def test_every_key_has_a_description() -> None:
    fields = [*ALL_FIELDS.values(), *(field for _, record in RECORDS for field in record.fields.values())]
    assert all(field.doc.endswith(".") or ":" in field.doc or "…" in field.doc for field in fields)
    assert "description" in SCHEMA["$defs"]["memory"]
