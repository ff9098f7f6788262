"""Budgets of loading, generous enough for a busy machine (the real figures are in docs/vmfile.md's commit)."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.vmfile_cases import fill, load

THREE = "box: debian-12\nvars: {m: 1GiB}\nmachines:\n  a: {memory: '{{ vars.m }}'}\n  b: {}\n  c: {depends_on: [a]}\n"
THOUSAND = """
box: debian-12
machines:
  web:
    count: 1000
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
print(*sorted({"jinja2", "paramiko", "requests", "rich", "platform", "importlib.metadata"} & set(sys.modules)))
"""


@pytest.fixture(autouse=True)
def _no_user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_a_thousand_machines_load_quickly(tmp_path: Path) -> None:
    fill(tmp_path)
    load(tmp_path, THREE)
    started = time.process_time()
    project = load(tmp_path, THOUSAND)
    assert time.process_time() - started < 0.4
    assert len(project.machines) == 1001


def test_three_machines_load_quickly_once_imported(tmp_path: Path) -> None:
    load(tmp_path, THREE)
    started = time.process_time()
    load(tmp_path, THREE)
    assert time.process_time() - started < 0.015


def test_nothing_heavy_is_imported_for_plain_names(tmp_path: Path) -> None:
    (tmp_path / "Vmfile").write_text(THREE)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, str(tmp_path / "Vmfile")], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""
