"""Measure vmctl against its budgets (docs/architecture.md), and print a table.

    scripts/bench [--rounds N] [--json FILE] [--only PART]

Everything is compared within one run on one machine; only the ratios mean something elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import big_box, boot, layers, provisioning, registry, startup, store, thousand
from benchmarks.measure import Finding, table

PARTS: dict[str, Callable[[Path, argparse.Namespace], Iterator[Finding]]] = {
    "startup": lambda place, options: startup.measure(place, times=options.times),
    "thousand": lambda place, options: thousand.measure(place, times=options.times),
    "store": lambda place, options: store.measure(place, options.box_home, times=options.rounds),
    "big_box": lambda place, options: big_box.measure(place, times=options.rounds),
    "registry": lambda place, options: registry.measure(place, times=options.rounds),
    "boot": lambda place, options: boot.measure(place, options.box_home, rounds=options.rounds, times=options.times),
    "layers": lambda place, options: layers.measure(place, options.box_home, rounds=options.rounds),
    "provision": lambda place, options: provisioning.measure(place, options.box_home, rounds=options.rounds),
}


def main() -> None:
    """Measure, print, write."""
    options = _parse()
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="vmctl-bench-", dir="/var/tmp") as place:
        Path(place).chmod(0o755)  # QEMU runs as a user of its own
        options.box_home = _own_home(options.box_home, Path(place) / "home")
        for part in options.only or PARTS:
            (Path(place) / part).mkdir(mode=0o755)
            for finding in PARTS[part](Path(place) / part, options):
                findings.append(finding)
                print(f"{finding.what}: {finding.value:.3f} {finding.unit}  {finding.detail}".rstrip(), flush=True)
    print(f"\n{table(findings)}")
    if options.json:
        machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release()}
        report = {"host": machine, "findings": [finding.as_object() for finding in findings]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def _own_home(given: Path, own: Path) -> Path:
    """A data directory of our own that has the boxes of the given one."""
    shutil.copytree(given / "boxes", own / "boxes", copy_function=_link)
    return own


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="boots of each kind (default 3)")
    parser.add_argument("--times", type=int, default=10, help="runs of each quick command (default 10)")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure only this part; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings there")
    parser.add_argument("--box-home", type=Path, required=True, help="a VMCTL_HOME with the debian-12 box")
    return parser.parse_args()


if __name__ == "__main__":
    main()
