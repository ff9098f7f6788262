"""The Vmfile: text → YAML nodes with their places → a checked ``Project``; all faults at once, with suggestions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmctl.vmfile.effective_config import effective, origins
    from vmctl.vmfile.faults import Fault, VmfileInvalid
    from vmctl.vmfile.json_schema import schema
    from vmctl.vmfile.loading import load, user_cache
    from vmctl.vmfile.locate import find
    from vmctl.vmfile.writing import to_yaml

__all__ = ["Fault", "VmfileInvalid", "effective", "find", "load", "origins", "schema", "to_yaml", "user_cache"]

MODULE_OF = {
    "Fault": "faults", "VmfileInvalid": "faults", "effective": "effective_config", "find": "locate", "load": "loading",
    "origins": "effective_config", "schema": "json_schema", "to_yaml": "writing", "user_cache": "loading",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Loaded when it is asked for: providers use the kinds of values alone, and other commands only some of this."""
    if name not in MODULE_OF:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{MODULE_OF[name]}"), name)
