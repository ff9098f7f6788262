"""Commands that must succeed while the test host is furnished."""

from __future__ import annotations

import subprocess
import sys


def must(*argv: str) -> None:
    """Run a program; end with its complaint when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"test host: {' '.join(argv)}: {done.stderr.strip()}")
