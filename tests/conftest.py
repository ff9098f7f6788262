"""Fixtures for all tests: no test touches the user's own vmctl data, and none leaves the interrupt flag set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host import community
from tests.unit.openssh_server import sshd
from vmctl import interrupt
from vmctl.boxes import recipe

__all__ = ["sshd"]  # a fixture; its module says what it is


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of the test's own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("VMCTL_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.delenv("VMCTL_PROVIDER", raising=False)
    return home


@pytest.fixture
def clean_interrupt() -> Iterator[None]:
    """For tests that set the interrupt flag."""
    interrupt.clear()
    yield
    interrupt.clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--regenerate`` writes golden files instead of comparing with them; read the diff before you commit it."""
    parser.addoption("--regenerate", action="store_true", help="write the golden files anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compares a text with a golden file, or writes the file."""

    def compare(file: Path, text: str) -> None:
        if request.config.getoption("--regenerate"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8")

    return compare


@pytest.fixture(scope="session")
def private_host() -> Path:
    """Directory of the test host that this runs in; see ``tests/host/run.py``."""
    root = os.environ.get("VMCTL_TEST_HOST")
    if not root:
        pytest.fail("needs the test host: sudo .venv/bin/python tests/host/run.py -- .venv/bin/pytest ...")
    return Path(root)


@pytest.fixture(scope="session")
def community_collections() -> Path:
    """The directory that holds ``ansible_collections`` of ansible.posix and community.general."""
    path = community.place()
    if not path.is_dir():
        pytest.fail("needs the community's collections: run `make test`, or scripts/test-parts")
    return path


@pytest.fixture(scope="session")
def debian_box() -> Path:
    """A data directory ($VMCTL_HOME) whose store has the debian-12 box; ``scripts/test-parts`` makes it."""
    cache = os.environ.get("VMCTL_TEST_CACHE")
    home = Path(cache or "nowhere", f"debian-12-{recipe.load('debian-12').digest[:16]}")
    if not (home / "boxes").is_dir():
        pytest.fail("needs the debian-12 box: run `make test`, or scripts/test-parts and scripts/in-test-host")
    return home
