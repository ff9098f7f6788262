"""One lane more than processors, for what boots no guest. (pytest runs pytest here, in process, with xdist.)"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.host import lane_plugin

pytest_plugins = ["pytester"]
RAN = re.compile(r"\[(gw\d)\] .*PASSED (\S+?)::test_\d+")


def lanes(pytester: pytest.Pytester, parts: dict[str, int | None], count: int = 3) -> dict[str, list[str]]:
    """Which parts each lane ran, of those that are known to boot so many guests (None = nobody knows)."""
    lane_plugin.FILE.write_text(
        json.dumps({f"{name}.py": {"seconds": 9, "boots": boots} for name, boots in parts.items() if boots is not None})
    )
    for name in parts:
        pytester.path.joinpath(f"{name}.py").write_text(
            "import time\nimport pytest\n@pytest.mark.parametrize('number', range(4))\n"
            "def test_1(number): time.sleep(0.05)\ndef test_2(): pass\n"
        )
    result = pytester.runpytest_inprocess(
        "-v", "-p", "tests.host.lane_plugin", "-p", "no:cacheprovider", "--dist", "loadscope",
        "--no-loadscope-reorder", "--tx", f"{count}*popen", *(f"{name}.py" for name in parts),
    )  # fmt: skip
    result.assert_outcomes(passed=5 * len(parts))
    ran: dict[str, list[str]] = defaultdict(list)
    for lane, part in RAN.findall(result.stdout.str()):
        if part not in ran[lane]:
            ran[lane].append(part)
    return ran


@pytest.fixture(autouse=True)
def _no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_plugin, "FILE", tmp_path / "durations.json")
    monkeypatch.delenv("VMCTL_TEST_HOST", raising=False)
    monkeypatch.delenv(lane_plugin.BEFORE, raising=False)


def test_one_lane_takes_what_boots_no_guest_and_nothing_else(pytester: pytest.Pytester) -> None:
    ran = lanes(pytester, {"test_a": 2, "test_b": 0, "test_c": 1, "test_d": None, "test_e": 0, "test_f": 3})
    (quiet,) = (parts for parts in ran.values() if "test_b.py" in parts)
    assert set(quiet) <= {"test_b.py", "test_e.py"}
    assert len(ran) == 3


def test_the_others_take_that_as_well_once_there_is_nothing_else(pytester: pytest.Pytester) -> None:
    ran = lanes(pytester, {"test_a": 2, **{f"test_b{number}": 0 for number in range(8)}})
    assert len([parts for parts in ran.values() if set(parts) - {"test_a.py"}]) == 3


def test_a_lane_without_anything_of_its_kind_leaves_the_rest_to_the_others(pytester: pytest.Pytester) -> None:
    ran = lanes(pytester, {f"test_{letter}": 1 for letter in "abcdef"})
    assert min(len(parts) for parts in ran.values()) == 1  # xdist has each lane begin with something


def test_one_lane_does_all(pytester: pytest.Pytester) -> None:
    assert set(lanes(pytester, {"test_a": 1, "test_b": 0}, count=1)) == {"gw0"}
