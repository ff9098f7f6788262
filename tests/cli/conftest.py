"""The whole command line, in process, on fake machines with real SSH servers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.harness import Project, make_box
from tests.cli.ssh_servers import SshServers
from vmctl import interrupt, registry
from vmctl.lifecycle import first_login, packaging

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that announces the provider ``fakeguests``, as an installed plug-in would."""
    site = tmp_path_factory.mktemp("site")
    info = site / "fakeguests-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakeguests\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vmctl.providers]\nfakeguests = fake_guests:FakeGuests\n")
    return site


@pytest.fixture
def project(
    tmp_path: Path, private_home: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch, clean_interrupt: None
) -> Iterator[Project]:
    """A project with one box in the store; SSH servers that are left over are ended.

    Its guests are this host, so nothing that changes a guest's system may run in them.
    """
    monkeypatch.setattr(packaging, "script", lambda name: f": {name}")
    monkeypatch.setattr(packaging, "POWER_OFF", ":")
    monkeypatch.setattr(first_login, "INTRODUCE", ":")
    monkeypatch.syspath_prepend(str(plugin))
    monkeypatch.syspath_prepend(str(HERE))
    # The hypervisors of the host that runs the tests may have machines of their own; `vmctl list` must not see them.
    entries = {"fakeguests": registry._entries()["fakeguests"]}
    monkeypatch.setattr(registry, "_entries", lambda: entries)
    monkeypatch.setattr(os, "fsync", lambda _handle: None)  # no power fails here, and disks are slow
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugin), str(HERE)]))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    make_box(private_home)
    root = tmp_path / "shop"
    root.mkdir()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
    yield Project(root, private_home)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for pid in private_home.glob("*/*.pid"):
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(pid.read_text()), signal.SIGTERM)
    interrupt.clear()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[SshServers]:
    """Two servers that vmctl did not make, `web-a` and `db-a`."""
    root = tmp_path / "servers"
    root.mkdir()
    made = SshServers(root)
    made.start("web-a", "db-a")
    yield made
    made.stop()


@pytest.fixture
def ansible_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests and servers are this host: the tests' own Python runs Ansible's modules, none is looked for."""
    monkeypatch.setenv("ANSIBLE_PYTHON_INTERPRETER", sys.executable)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where provisioners leave things on guests and servers, which are this host."""
    directory = tmp_path / "place"
    directory.mkdir()
    return directory
