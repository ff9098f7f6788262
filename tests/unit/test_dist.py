"""What a user gets from the package index: the wheel, by way of the source archive, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
SOURCE_ROOTS = {
    "vmctl": REPOSITORY,
    "vmctl_boxes": REPOSITORY / "boxes",
    "vmctl_libvirt": REPOSITORY / "providers",
    "vmctl_playbooks": REPOSITORY / "playbooks",
    "vmctl_virtualbox": REPOSITORY / "providers",
    "vmctl_incus": REPOSITORY / "providers",
}
PROVIDERS = {"libvirt": "LibvirtDriver", "virtualbox": "VirtualBoxDriver", "incus": "IncusDriver"}
IMPORT_COMMANDS = """
from vmctl.cli.root import cli
for name in cli.list_commands(None):
    print(cli.get_command(None, name).name)
"""
LOAD = """
from importlib.metadata import entry_points
for entry in entry_points(group="vmctl.providers"):
    print(entry.name, entry.load().__name__)
"""


def _run(*argv: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def _build(kind: str, source: Path, target: Path) -> Path:
    _run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target, cwd=source)
    (archive,) = target.iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the unpacked source archive as an installer would."""
    place = tmp_path_factory.mktemp("dist")
    _run("tar", "--extract", "--file", _build("sdist", REPOSITORY, place / "sdist"), cwd=place)
    return _build("wheel", place / f"vmctl-{PROJECT['version']}", place / "wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` directory of an environment with that wheel; its dependencies are those of our own."""
    place = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(place, with_pip=False)
    programs = place / "bin"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", programs / "python", "install"]
    _run(*pip, "--quiet", "--no-deps", "--no-index", "--no-compile", wheel, cwd=place)
    (packages,) = place.glob("lib/python*/site-packages")
    # A directory named by a .pth file is only searched: the editable vmctl's own .pth in there is not obeyed.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def _shipped() -> Iterator[str]:
    for package, root in SOURCE_ROOTS.items():
        for path in (root / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(root))


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set(_shipped())


def test_the_wheel_is_typed_and_licensed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "vmctl/py.typed" in names
    assert f"vmctl-{PROJECT['version']}.dist-info/licenses/LICENSE" in names


def test_the_installed_program_runs_from_its_own_environment(installed: Path, tmp_path: Path) -> None:
    assert _run(installed / "vmctl", "--version", cwd=tmp_path).strip().endswith(PROJECT["version"])
    where = _run(installed / "python", "-c", "import vmctl; print(vmctl.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_every_command_of_the_installed_program_can_be_imported(installed: Path, tmp_path: Path) -> None:
    listed = _run(installed / "python", "-c", IMPORT_COMMANDS, cwd=tmp_path).split()
    assert {"up", "destroy", "box"} <= set(listed)


def test_the_installed_providers_load(installed: Path, tmp_path: Path) -> None:
    lines = _run(installed / "python", "-c", LOAD, cwd=tmp_path).splitlines()
    assert dict(line.split() for line in lines) == PROVIDERS
