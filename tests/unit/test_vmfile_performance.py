"""What loading costs, as ratios; the budgets themselves are measured by `make bench`."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.vmfile_cases import fill, load

THREE = "box: debian-12\nvars: {m: 1GiB}\nmachines:\n  a: {memory: '{{ vars.m }}'}\n  b: {}\n  c: {depends_on: [a]}\n"
MANY = """
box: debian-12
machines:
  web:
    count: COUNT
    ports: ["8080:80"]
    networks: [{name: backend, ip: 192.168.56.10, netmask: 21}]
    depends_on: [db]
  db: {}
provision: [{shell: bootstrap.sh}]
"""
IN_A_NEW_PROCESS = """
import sys
from pathlib import Path
from vmctl import vmfile
vmfile.load(Path(sys.argv[1]), environ={})
print(*sorted({"jinja2", "paramiko", "requests", "rich", "importlib.metadata"} & set(sys.modules)))
"""


@pytest.fixture(autouse=True)
def _no_user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def cost(directory: Path, count: int) -> float:
    """CPU seconds of loading so many machines, the best of three."""
    text, spent = MANY.replace("COUNT", str(count)), []
    for _ in range(3):
        started = time.process_time()
        assert len(load(directory, text).machines) == count + 1
        spent.append(time.process_time() - started)
    return min(spent)


def test_loading_costs_in_proportion_to_the_machines(tmp_path: Path) -> None:
    fill(tmp_path)
    load(tmp_path, THREE)
    assert cost(tmp_path, 1000) < 30 * cost(tmp_path, 100)  # 100 times, if each machine looked at all others


def test_nothing_heavy_is_imported_for_plain_names(tmp_path: Path) -> None:
    (tmp_path / "Vmfile").write_text(THREE)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, str(tmp_path / "Vmfile")], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""
