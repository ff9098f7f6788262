"""What an answer of the API looks like, as far as vmctl reads it: whatever else comes is no answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

LISTS = re.compile(r"/1\.0/(images|instances|networks|storage-pools|cluster/members|instances/[^/]+/snapshots)")
"""Resources of which a server gives a list."""
NAMED = frozenset({"/1.0/storage-pools"})
"""Of which vmctl asks for the names alone."""
MAPPINGS = frozenset({
    "config", "devices", "disk", "environment", "expanded_config", "expanded_devices", "network", "properties",
    "resources",
})  # fmt: skip
TEXTS = frozenset({
    "created_at", "driver", "fingerprint", "last_used_at", "location", "name", "status", "type", "url",
})  # fmt: skip
NEEDED = (
    (re.compile(r"/1\.0/instances(/[^/]+)?"), ("name", "status")),
    (re.compile(r".*/snapshots"), ("name", "created_at")),
)
INSTANCES = re.compile(r"/1\.0/instances(/.*)?")


def problem(path: str, value: Any) -> str:
    """Why a value is none of that resource; "" = it may be.

    Args:
        path: of the resource.
        value: what the server says of it; None = nothing.
    """
    if value is None:
        return ""
    is_list = LISTS.fullmatch(path) is not None
    if not isinstance(value, list if is_list else dict):
        return f"it is {str(value)[:40]!r}"
    several = [one for one in value if not (path in NAMED and isinstance(one, str))] if is_list else [value]
    return next((why for one in several for why in _of_one(path, one)), "")


def _of_one(path: str, one: Any) -> Iterator[str]:
    if not isinstance(one, dict):
        yield f"{str(one)[:40]!r} is in it"
        return
    for pattern, keys in NEEDED:
        if pattern.fullmatch(path):
            yield from (f"it has no {key!r}" for key in keys if not isinstance(one.get(key), str))
    yield from (f"its {key!r} is {str(found)[:40]!r}" for key, found in one.items() if not _is_right(key, found))
    if INSTANCES.fullmatch(path):
        yield from _of_instance(one)


def _of_instance(one: Mapping[str, Any]) -> Iterator[str]:
    for key in ("config", "expanded_config"):
        if not all(isinstance(text, str) for text in (one.get(key) or {}).values()):
            yield f"its {key!r} has more than text"
    for key in ("devices", "expanded_devices"):
        if not all(isinstance(device, dict) for device in (one.get(key) or {}).values()):
            yield f"its {key!r} has more than devices"


def _is_right(key: str, value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, dict) if key in MAPPINGS else isinstance(value, str) or key not in TEXTS
