"""A plug-in of pytest for tests on several lanes: the order of their parts, how often guests booted, and a table.

A part is what one lane runs at a stretch: the functions of a module, or a class (xdist's ``loadscope``).
``durations.json`` holds the seconds of those that take long; ``--record-durations`` writes it anew.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.host import boots

FILE = Path(__file__).with_name("durations.json")
WORTH_RECORDING = 5.0
UNKNOWN = {"tests/integration": 60.0, "tests/contract": 60.0}
"""What a part is taken to last that nobody has measured; elsewhere it is nothing."""
BEFORE = "VMCTL_TEST_BEFORE"
"""Names the file with what went before the tests: lines of a name, a tab, seconds."""
IN_ONE_ROW = ("tests/unit", "tests/cli")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--record-durations``."""
    parser.addoption("--record-durations", action="store_true", help=f"write {FILE.name} anew, from this run")


def pytest_configure(config: pytest.Config) -> None:
    """Count in the lanes; draw up the table where they are led from."""
    root = os.environ.get("VMCTL_TEST_HOST")
    if root:
        config.pluginmanager.register(BootsOfTests(Path(root)))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Table(record=config.getoption("--record-durations")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the parts that take longest first; xdist hands them out in this order."""
    known = json.loads(FILE.read_text(encoding="utf-8"))
    items.sort(key=lambda item: -_expected(part_of(item.nodeid), known))


def part_of(test: str) -> str:
    """The part that a test belongs to."""
    return test.rsplit("::", 1)[0]


def _expected(part: str, known: dict[str, float]) -> float:
    unknown = next((seconds for start, seconds in UNKNOWN.items() if part.startswith(start)), 0.0)
    return known.get(part, unknown)


class BootsOfTests:
    """Adds to each test how many guests booted while it was set up, ran and was put away."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.before = boots.count(root)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        """Count at the end, after its fixtures."""
        try:
            return (yield)
        finally:
            now = boots.count(self.root)
            item.user_properties.append(("boots", now - self.before))
            self.before = now


class Table:
    """What each part took, on whatever lane."""

    def __init__(self, *, record: bool) -> None:
        self.record = record
        self.started = time.monotonic()
        self.seconds: Counter[str] = Counter()
        self.boots: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of one test."""
        part = part_of(report.nodeid)
        self.seconds[part] += report.duration  # type: ignore[assignment]  # a Counter adds floats as well
        if report.when == "teardown":
            self.boots[part] += sum(int(str(value)) for name, value in report.user_properties if name == "boots")

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table; pytest's own summary of failures and its last line come after it."""
        rows = [*_before(), *self._rows()]
        total = time.monotonic() - self.started + sum(seconds for _, seconds, _ in _before())
        rows.append(("all of it, by the clock", total, sum(self.boots.values())))
        width = max(len(name) for name, _, _ in rows)
        terminalreporter.section("what took how long, and how many guests booted")
        terminalreporter.write_line(f"{'part':{width}}  seconds  boots")
        for name, seconds, count in rows:
            terminalreporter.write_line(f"{name:{width}}  {seconds:7.0f}  {count or '':5}".rstrip())
        if self.record:
            self._record()

    def _rows(self) -> Iterator[tuple[str, float, int]]:
        seconds, counts = Counter[str](), Counter[str]()
        for part in self.seconds:
            row = next((start for start in IN_ONE_ROW if part.startswith(f"{start}/")), part)
            seconds[row] += self.seconds[part]
            counts[row] += self.boots[part]
        for row, amount in sorted(seconds.items()):
            yield row, amount, counts[row]

    def _record(self) -> None:
        known = {part: math.ceil(each) for part, each in sorted(self.seconds.items()) if each >= WORTH_RECORDING}
        FILE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def _before() -> Iterator[tuple[str, float, int]]:
    path = os.environ.get(BEFORE)
    for line in Path(path).read_text(encoding="utf-8").splitlines() if path else ():
        name, _, seconds = line.partition("\t")
        yield name, float(seconds), 0
