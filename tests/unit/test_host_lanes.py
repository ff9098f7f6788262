"""Tests on several lanes: which part comes first, and the table at the end. (pytest runs pytest here, in process.)"""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path

import pytest

from tests.host import boots, lane_plugin

pytest_plugins = ["pytester"]
PART = "test_some.py"


@pytest.fixture
def durations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with known durations; nothing else of the host counts."""
    file = tmp_path / "durations.json"
    file.write_text("{}")
    monkeypatch.setattr(lane_plugin, "FILE", file)
    monkeypatch.delenv("VMCTL_TEST_HOST", raising=False)
    monkeypatch.delenv(lane_plugin.BEFORE, raising=False)
    return file


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "tests.host.lane_plugin", "-p", "no:cacheprovider", *options)


def table(result: pytest.RunResult) -> dict[str, list[str]]:
    """The rows by their names, with seconds and boots."""
    lines = result.outlines
    start = next(number for number, line in enumerate(lines) if line.startswith("part  "))
    rows = takewhile(lambda line: not line.startswith("="), lines[start + 1 :])
    return {name: rest.split() for name, rest in (row.split("  ", 1) for row in rows)}


def test_the_longest_part_comes_first_and_those_nobody_measured_by_where_they_are(
    pytester: pytest.Pytester, durations: Path
) -> None:
    for name in ("tests/unit/test_a.py", "tests/unit/test_b.py", "tests/integration/test_new.py"):
        path = pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "class TestLong:\n    def test_1(self): pass\n    def test_2(self): pass\n\ndef test_short(): pass\n"
        )
    durations.write_text(json.dumps({"tests/unit/test_b.py::TestLong": 90, "tests/unit/test_a.py": 30}))
    result = run(pytester, "-v", "-p", "no:randomly", "tests")
    ran = [line.split()[0] for line in result.outlines if "PASSED" in line]
    assert ran == [
        *(f"tests/unit/test_b.py::TestLong::test_{number}" for number in (1, 2)),
        *(f"tests/integration/test_new.py::TestLong::test_{number}" for number in (1, 2)),
        "tests/integration/test_new.py::test_short",
        "tests/unit/test_a.py::test_short",
        *(f"tests/unit/test_a.py::TestLong::test_{number}" for number in (1, 2)),
        "tests/unit/test_b.py::test_short",
    ]


def test_boots_count_where_they_happen_and_the_summary_is_pytests(
    pytester: pytest.Pytester, durations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boots.log(tmp_path).write_text("1\n")  # one before all tests
    monkeypatch.setenv("VMCTL_TEST_HOST", str(tmp_path))
    before = tmp_path / "before"
    before.write_text("lint\t4.4\ntypes\t100.0\n")
    monkeypatch.setenv(lane_plugin.BEFORE, str(before))
    pytester.makepyfile(
        test_some=f"""
        import pytest

        def boot():
            with open({str(boots.log(tmp_path))!r}, "a") as log:
                log.write("2\\n")

        @pytest.fixture
        def machine():
            boot()
            yield
            boot()

        def test_two(machine):
            boot()

        def test_none():
            assert not "broken on purpose"

        class TestMore:
            def test_one(self):
                boot()
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=2, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    rows = table(result)
    assert (rows["lint"], rows["types"]) == (["4"], ["100"])
    assert [rows[part][1:] for part in (PART, f"{PART}::TestMore")] == [["3"], ["1"]]
    seconds, count = rows["all of it, by the clock"]
    assert count == "4"
    assert 104 <= int(seconds) < 164
    assert "1 failed, 2 passed" in result.outlines[-1]
    assert "broken on purpose" in next(line for line in result.outlines if line.startswith("FAILED"))


def test_what_took_long_is_recorded_when_asked(
    pytester: pytest.Pytester, durations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_plugin, "WORTH_RECORDING", 0.0)
    pytester.makepyfile(test_some="def test_it(): pass")
    run(pytester)
    assert json.loads(durations.read_text()) == {}
    run(pytester, "--record-durations")
    assert json.loads(durations.read_text()) == {PART: 1}


def test_a_run_without_tests_is_no_success(pytester: pytest.Pytester, durations: Path) -> None:
    assert run(pytester).ret == pytest.ExitCode.NO_TESTS_COLLECTED
