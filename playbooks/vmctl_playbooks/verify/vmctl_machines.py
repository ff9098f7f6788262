"""A pytest plugin for `verify` of `vmctl test`: the machines as fixtures. Runs in any Python with pytest, alone.

def test_nginx_answers(machines):
    assert machines["web"].run("curl -sf http://localhost/").returncode == 0

With pytest-testinfra installed, its `host` fixture is each of the machines in turn, or each that a module's
`testinfra_hosts` names: machines, or groups of the inventory as "ansible://webservers".
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENT = "-o ConnectTimeout=60"  # seconds; testinfra's own 10 are few for an emulated guest under load


@dataclass(frozen=True)
class RunningMachine:
    """A machine that runs."""

    name: str

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command by the login user's shell; ``returncode``, ``stdout`` and ``stderr`` say how it went."""
        argv = ["ssh", "-F", os.environ["VMCTL_SSH_CONFIG"], "--", self.name, command]
        return subprocess.run(argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest-testinfra, where it is installed, how to reach machines, unless the command line has said so."""
    option = config.option
    if getattr(option, "hosts", "") is None:
        option.connection = option.connection or "ssh"
        option.ssh_config = option.ssh_config or os.environ["VMCTL_SSH_CONFIG"]
        option.ssh_extra_args = option.ssh_extra_args or PATIENT
        option.ansible_inventory = option.ansible_inventory or os.environ["VMCTL_INVENTORY"]


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have tests of a module that names no machines run on all."""
    if "_testinfra_host" in metafunc.fixturenames and not hasattr(metafunc.module, "testinfra_hosts"):
        metafunc.module.testinfra_hosts = _names()


def _names() -> list[str]:
    return os.environ["VMCTL_MACHINES"].split()


@pytest.fixture(scope="session")
def machines() -> dict[str, RunningMachine]:
    """All machines of the test, by name."""
    return {name: RunningMachine(name) for name in _names()}


@pytest.fixture(scope="session")
def inventory() -> Path:
    """The Ansible inventory of the test's machines, a directory."""
    return Path(os.environ["VMCTL_INVENTORY"])
