"""The command line: ``main`` catches every error once and turns it into an exit code."""

from __future__ import annotations

import sys

from vmctl.cli.root import cli

__all__ = ["cli", "main"]


def main() -> None:
    """Entry point of the ``vmctl`` console script."""
    from vmctl.cli.running import run

    sys.exit(run(cli, sys.argv[1:]))
