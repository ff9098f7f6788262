"""The Vmfile: text → YAML nodes with their places → a checked ``Project``; all faults at once, with suggestions."""

from __future__ import annotations

from vmctl.vmfile.effective import effective, origins
from vmctl.vmfile.faults import Fault, VmfileInvalid
from vmctl.vmfile.json_schema import schema
from vmctl.vmfile.loading import load
from vmctl.vmfile.locate import find
from vmctl.vmfile.writing import to_yaml

__all__ = ["Fault", "VmfileInvalid", "effective", "find", "load", "origins", "schema", "to_yaml"]
