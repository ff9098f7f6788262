"""The Vmfile's JSON Schema, made from the table that the validator reads by: editors and vmctl agree."""

from __future__ import annotations

from typing import Any

from vmctl.vmfile.keys import COUNT, FOR_EACH, MACHINE
from vmctl.vmfile.kinds import EXPRESSION_SCHEMA, Schema
from vmctl.vmfile.names import PATTERN, RESERVED
from vmctl.vmfile.provider_keys import AUTO, OF_PROVIDER, installed, section
from vmctl.vmfile.structures import properties
from vmctl.vmfile.top_keys import TOP_ONLY

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IDENTITY = "urn:vmctl:vmfile"


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a project's Vmfile, with the providers that are installed here."""
    common = {key: {"$ref": f"#/$defs/{key}"} for key in (*MACHINE, *installed())}
    return {
        "$schema": DIALECT,
        "$id": IDENTITY,
        "title": "Vmfile",
        "description": "Virtual machines for `vmctl up`.",
        "type": "object",
        "properties": {**common, **properties(TOP_ONLY), "machines": _machines()},
        "additionalProperties": False,
        "$defs": {
            "expression": {
                "description": "Text with Jinja2 expressions over env, vars, machine, each, project and host.",
                "type": "string",
                "pattern": r"\{\{",
            },
            **properties(MACHINE),
            "provider": _provider(),
            **{name: _options(name) for name in installed()},
            "machine": {
                "type": "object",
                "properties": {**common, **properties({"count": COUNT, "for_each": FOR_EACH})},
                "additionalProperties": False,
                "not": {"required": ["count", "for_each"]},
            },
        },
    }


def _machines() -> Schema:
    return {
        "description": "Machines by name; without this key there is one, `default`.",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{PATTERN}$", "not": {"enum": list(RESERVED)}},
        "additionalProperties": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/machine"}]},
    }


def _provider() -> Schema:
    """The names that can be used here, for editors to complete."""
    known = properties(MACHINE)["provider"]
    return {**known, "anyOf": [{"enum": [AUTO, *installed()]}, EXPRESSION_SCHEMA]}


def _options(provider: str) -> Schema:
    return {**section(provider).schema(), "description": OF_PROVIDER.format(provider)}
