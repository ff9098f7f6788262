"""Sizes and times for people. How a Vmfile writes them, exactly, is ``vmctl.vmfile.quantities``."""

from __future__ import annotations

STEP = 1024
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600


def readable(size: float) -> str:
    """Bytes in binary units: "512 B", "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < STEP:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= STEP
    return f"{size:.1f} TiB"


def ago(seconds: float) -> str:
    """How long ago something was: "just now", "5 min ago", "3 h ago", "4 days ago"."""
    if seconds < MINUTE:
        return "just now"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min ago"
    return f"{seconds // HOUR:.0f} h ago" if seconds < 2 * DAY else f"{seconds // DAY:.0f} days ago"
