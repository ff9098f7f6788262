"""Sizes for people. How a Vmfile writes them, exactly, is ``vmctl.vmfile.quantities``."""

from __future__ import annotations

STEP = 1024


def readable(size: float) -> str:
    """Bytes in binary units: "512 B", "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < STEP:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= STEP
    return f"{size:.1f} TiB"
