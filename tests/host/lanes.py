"""Run tests on several lanes side by side, each a private test host of its own, and tell what took how long.

    sudo python tests/host/lanes.py [--lanes N] [PYTEST-ARGUMENT...]

A lane is a worker of pytest-xdist that lives inside ``run.py``. Each takes the next module (or class) of tests when it
is through with its last; the longest come first, so that all lanes end at about the same time. What pytest prints, its
summary and its exit status are those of all lanes together; the table before them is of ``lane_plugin.py``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
RUN = REPOSITORY / "tests" / "host" / "run.py"


def main(words: list[str]) -> int:
    """Run pytest; its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--lanes", type=int, default=usual(), help="how many (default here: %(default)s)")
    arguments, rest = parser.parse_known_args(words)
    if os.geteuid() != 0:
        sys.exit(f"The test hosts make namespaces, so they need root:\n  sudo {sys.executable} {' '.join(sys.argv)}")
    os.chdir(REPOSITORY)
    sys.path.insert(0, str(REPOSITORY))  # a lane's Python gets it from here
    lane = shlex.join([sys.executable, "-B", str(RUN), "--", sys.executable])
    return pytest.main(
        [
            *("-p", "tests.host.lane_plugin"),
            *("-p", "no:cacheprovider"),  # where this is sudo, the cache would belong to root
            *("--dist", "loadscope", "--no-loadscope-reorder", "--tx", f"{arguments.lanes}*popen//python={lane}"),
            *rest,
        ]
    )


def usual() -> int:
    """As many as there are processors, and at least two: an emulated guest keeps one busy, or starves."""
    return max(2, os.cpu_count() or 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
