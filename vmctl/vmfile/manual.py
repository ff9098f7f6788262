"""The table of keys in docs/vmfile.md, made from the table that the validator reads by."""

from __future__ import annotations

from typing import Any

from vmctl.registry import BUILT_IN
from vmctl.vmfile.described_key import Key
from vmctl.vmfile.keys import COUNT, FOR_EACH, MACHINE
from vmctl.vmfile.names import RESERVED
from vmctl.vmfile.top_keys import TOP_ONLY
from vmctl.vmfile.writing import scalar

HEAD = ("| key | type | default | meaning |", "|---|---|---|---|")
IN_MACHINE, AT_TOP = "In a machine only.", "Top level only."
OF_PROVIDER = "Settings that only that provider knows; `vmctl schema` has those of all that are installed."
WORDS = {"boolean": "boolean", "string": "text", "array": "list", "object": "mapping"}


def table() -> str:
    """All keys, a line each: what they hold, what holds without them, and what they mean."""
    names = ", ".join(f"`{name}`" for name in RESERVED)
    machines = f"Names have 1 to 31 of `a-z`, `0-9`, `-`; not {names}. {AT_TOP}"
    providers = ", ".join(f"`{name}`" for name in BUILT_IN)
    lines = [
        *HEAD,
        f"| `machines` | mapping of names | one machine, `default` | {machines} |",
        *(_line(key, one, IN_MACHINE) for key, one in (("count", COUNT), ("for_each", FOR_EACH))),
        *(_line(key, one, "" if one.where == "user" else AT_TOP) for key, one in TOP_ONLY.items()),
        *(_line(key, one) for key, one in MACHINE.items()),
        f"| {providers}, … | mapping | `{{}}` | {OF_PROVIDER} |",
    ]
    return "\n".join(lines) + "\n"


def _line(key: str, one: Key, where: str = "") -> str:
    default = one.otherwise or ("" if one.default is None else f"`{_flow(one.default)}`")
    doc = one.doc.partition("; default:")[0].rstrip(".")
    doc += "" if doc.endswith("…") else "."
    meaning = " ".join(text for text in (doc, one.more, where) if text)
    return f"| `{key}` | {one.holds or _holds(one)} |{f' {default} ' if default else ' '}| {meaning} |"


def _holds(one: Key) -> str:
    """What the key holds, by its schema."""
    schema = one.kind.schema()
    schema = next((form for form in schema.get("anyOf", ()) if "$ref" not in form), schema)
    if "minimum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}"
    return WORDS[schema["type"]]


def _flow(value: Any) -> str:
    """A default on one line."""
    return f"[{', '.join(map(scalar, value))}]" if isinstance(value, list) else scalar(value)
