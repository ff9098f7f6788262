"""Real machines: fixtures that run ``vmctl`` as a user would, in projects of their own, on the private test host.

`make test` runs all of this inside ``tests/host/run.py``; a plain `pytest tests/integration` says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.host import incus, lxd
from tests.host.incus import Incus
from tests.host.lxd import FOLDER_OWNER, Lxd
from tests.host.ordinary_user import GID, UID, as_user
from vmctl.ssh import serial
from vmctl.wait import Deadline, until

ON_HOST = "VMCTL_TEST_HOST"
VMCTL = Path(sys.executable).with_name("vmctl")
LONG = 900.0
NO_LAYERS = "cache: {size: 0}\n"
"""The user's Vmfile of most tests, each of which has its machines provisioned."""


@pytest.fixture(scope="session")
def test_host() -> Path:
    """Where the private test host keeps its files."""
    place = os.environ.get(ON_HOST)
    if not place:
        pytest.fail("integration tests run on the private test host: sudo .venv/bin/python tests/host/run.py -- …")
    return Path(place)


@dataclass
class Run:
    """What one vmctl command did."""

    status: int
    out: str
    err: str

    def objects(self) -> list[dict[str, Any]]:
        """The JSON lines that it printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def answer(self) -> dict[str, Any]:
        """Its last JSON line."""
        return self.objects()[-1]


@dataclass
class ProjectDirectory:
    """A directory with a Vmfile, and vmctl run in it."""

    root: Path
    environment: dict[str, str]
    as_ordinary_user: bool = False
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    has_layers: bool = False

    @property
    def state(self) -> Path:
        """Where vmctl keeps what it knows of the project."""
        claim = json.loads((self.root / ".vmctl" / "project.json").read_text())
        return Path(self.environment["VMCTL_HOME"], "projects", claim["id"])

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if self.as_ordinary_user:
            self._own(path)
        return path

    def _own(self, path: Path) -> None:
        for place in (path, *path.parents):
            if not place.is_relative_to(self.root):
                return
            os.chown(place, UID, UID)

    def with_layers(self) -> None:
        """Have layers made and used, as vmctl does by itself; tests of other things have none (``NO_LAYERS``)."""
        self.environment.pop("XDG_CONFIG_HOME", None)
        if self.as_ordinary_user:  # libvirt has its sockets there, so it stays; the next project writes the file again
            (self.root.parent / ".config" / "vmctl" / "Vmfile").unlink(missing_ok=True)
        self.has_layers = True

    def argv(self, *words: str) -> list[str]:
        """The command as it is run."""
        argv = [str(VMCTL), *words]
        return as_user(argv, self.environment) if self.as_ordinary_user else argv

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start vmctl and go on."""
        child = subprocess.Popen(
            self.argv(*words),
            cwd=self.root,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(child)
        return child

    def vmctl(self, *words: str, status: int = 0, timeout: float = LONG) -> Run:
        """Run vmctl to its end, and see that it ends with ``status``."""
        child = self.start(*words)
        out, err = child.communicate(timeout=timeout)
        shown = f"$ vmctl {' '.join(words)}\n{out}{err}[status {child.returncode}]"
        print(shown)  # noqa: T201  pytest shows it when the test fails
        assert child.returncode == status, shown
        return Run(child.returncode, out, err)

    def cut_power_at(self, text: str, *words: str, timeout: float = LONG) -> None:
        """Start `vmctl up` (or ``words``), and cut the power once the only machine's console says this."""
        known = self._console_size()
        child = self.start(*(words or ("up",)))
        deadline = Deadline.after(timeout)
        while text not in (shown := self._console(known)):
            assert child.poll() is None, child.communicate()
            assert not deadline.passed, f"nothing of {text!r} in {shown}"
            time.sleep(0.05)
        child.kill()
        child.communicate()
        self.vmctl("halt", "--force")

    def boot_again(self, machine: str) -> None:
        """Have the only machine's guest go off and boot again, of which vmctl is told nothing.

        In another QEMU: in the same one, an emulated guest takes two to five times as long to boot again.
        """
        rows = self.vmctl("status", "--json").answer["machines"]
        domain = str(next(row["domain"] for row in rows if row["name"] == machine))
        self.ssh("sudo systemctl poweroff --no-block", machine)
        look = ("qemu:///system", "domstate", domain)
        until(lambda: virsh(*look) == ["shut off"], Deadline.after(120), "the guest to go off")
        known = self._console_size()
        virsh("qemu:///system", "start", domain)
        until(lambda: " login: " in self._console(known), Deadline.after(300), "the guest to boot again")

    def _console_size(self) -> int:
        return next((place.stat().st_size for place in self._consoles()), 0)

    def _console(self, since: int) -> str:
        return "".join(serial.clean(place.read_text(errors="replace")[since:]) for place in self._consoles())

    def _consoles(self) -> list[Path]:
        claimed = (self.root / ".vmctl" / "project.json").exists()
        return list(self.state.glob("machines/*/console.log")) if claimed else []

    def states(self) -> dict[str, str]:
        """What `vmctl status` says of each machine."""
        answer = self.vmctl("status", "--json").answer
        return {machine["name"]: machine["state"] for machine in answer["machines"]}

    def ssh(self, command: str, machine: str = "default", *, status: int = 0) -> str:
        """Run a command in a machine and return what it printed."""
        return self.vmctl("ssh", machine, "-c", command, status=status).out

    def end(self, child: subprocess.Popen[str]) -> None:
        """Kill a command with its ssh, which would wait for a guest that is gone, and hold our pipes, for ever."""
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate(timeout=60)

    def clean_up(self) -> None:
        """End what still runs, remove the machines, and layers as well where some were wanted: others count theirs."""
        for child in self.started:
            self.end(child)
        self.started.clear()
        verbs = [("destroy", "--yes"), ("cache", "prune", "--all")]
        for words in verbs if self.has_layers else verbs[:1]:
            subprocess.run(self.argv(*words), cwd=self.root, check=False, env={**os.environ, **self.environment})


def fetch(url: str) -> str:
    """A page, as text; a service may start a while after SSH, which is all that `up` waits for."""
    limit = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.5)


def domains(uri: str = "qemu:///system") -> list[str]:
    """All domains that libvirt knows."""
    return virsh(uri, "list", "--all", "--name")


def volumes(uri: str = "qemu:///system", pool: str = "vmctl") -> list[str]:
    """All volumes of vmctl's pool, and all other files in it: libvirt is told to look again, if nobody is at it."""
    with suppress(subprocess.CalledProcessError):
        virsh(uri, "pool-refresh", pool)
    return [line.split()[0] for line in virsh(uri, "vol-list", pool)]


def virsh(uri: str, *words: str) -> list[str]:
    """The lines that virsh prints."""
    argv: Sequence[str] = ["virsh", "--quiet", "--connect", uri, *words]
    if uri.endswith("session"):
        argv = as_user(argv, {})
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if line.strip()]


@pytest.fixture(scope="session")
def box_home(test_host: Path, debian_box: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose store has the debian-12 box."""
    home = test_host / "vmctl-home"
    shutil.copytree(debian_box, home, copy_function=_link)
    return home


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture
def project(test_host: Path, box_home: Path, request: pytest.FixtureRequest) -> Iterator[ProjectDirectory]:
    """A project directory for system mode; its machines are removed at the end."""
    yield from _project(test_host, box_home, request.node.name, as_ordinary_user=False)


@pytest.fixture(scope="class")
def day(test_host: Path, box_home: Path, request: pytest.FixtureRequest) -> Iterator[ProjectDirectory]:
    """A project directory that the tests of a class share: they are steps of one session, in their order."""
    yield from _project(test_host, box_home, _snake(request.node.name), as_ordinary_user=False)


@pytest.fixture(scope="class")
def user_day(test_host: Path, box_home: Path, request: pytest.FixtureRequest) -> Iterator[ProjectDirectory]:
    """As ``day``, of an ordinary user, for session mode."""
    yield from _project(test_host, box_home, _snake(request.node.name), as_ordinary_user=True)


@pytest.fixture(scope="session")
def lxd_server(test_host: Path) -> Lxd:
    """The test host's LXD, shared by all tests that need it."""
    return lxd.started(test_host)


@pytest.fixture(scope="session")
def incus_server(test_host: Path) -> Incus:
    """As ``lxd_server``, an Incus."""
    return incus.started(test_host)


@pytest.fixture
def containers(
    test_host: Path, box_home: Path, lxd_server: Lxd, request: pytest.FixtureRequest
) -> Iterator[ProjectDirectory]:
    """As ``project``; its machines are containers, for tests of what does not depend on the hypervisor."""
    yield from _containers(test_host, box_home, lxd_server, request.node.name)


@pytest.fixture(scope="class")
def container_day(
    test_host: Path, box_home: Path, lxd_server: Lxd, request: pytest.FixtureRequest
) -> Iterator[ProjectDirectory]:
    """As ``day``, with containers."""
    yield from _containers(test_host, box_home, lxd_server, _snake(request.node.name))


@pytest.fixture(scope="class")
def incus_day(
    test_host: Path, box_home: Path, incus_server: Incus, request: pytest.FixtureRequest
) -> Iterator[ProjectDirectory]:
    """As ``container_day``, on Incus."""
    yield from _containers(test_host, box_home, incus_server, _snake(request.node.name))


def _snake(name: str) -> str:
    """A class's name as a project's, which become names of machines in the hypervisor."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _new_directory(parent: Path, name: str) -> Path:
    """Of that name, with a number where a class of another module has the same."""
    root = next(
        place for number in count(1) if not (place := parent / f"{name}{number if number > 1 else ''}").exists()
    )
    root.mkdir(parents=True)
    return root


def _containers(test_host: Path, box_home: Path, server: Lxd, name: str) -> Iterator[ProjectDirectory]:
    root = _new_directory(test_host / "projects", name)
    os.chown(root, FOLDER_OWNER, FOLDER_OWNER)  # root's own folders are not live: they would not be the login user's
    own = {"VMCTL_HOME": str(box_home), "VMCTL_PROVIDER": "incus", "VMCTL_SAFE_DIRECTORY": str(root)}
    own["XDG_CONFIG_HOME"] = str(_config(test_host / "config"))
    yield from _until_cleaned_up(ProjectDirectory(root, {**own, **server.environment}))


def _project(test_host: Path, box_home: Path, name: str, *, as_ordinary_user: bool) -> Iterator[ProjectDirectory]:
    parent = test_host / ("home" if as_ordinary_user else "projects")
    root = _new_directory(parent, name.replace("[", "-").replace("]", ""))
    home = box_home
    if as_ordinary_user:
        home = parent / "vmctl-home"
        if not home.exists():
            shutil.copytree(box_home, home)
            subprocess.run(["chown", "-R", f"{UID}:{UID}", str(home)], check=True)
        os.chown(root, UID, UID)
    environment = {"VMCTL_HOME": str(home)}
    user = _config(parent / ".config" if as_ordinary_user else test_host / "config")
    if as_ordinary_user:
        subprocess.run(["chown", "-R", f"{UID}:{UID}", str(user)], check=True)
    else:
        environment["XDG_CONFIG_HOME"] = str(user)
    yield from _until_cleaned_up(ProjectDirectory(root, environment, as_ordinary_user))


def _config(user: Path) -> Path:
    """The user's own configuration, with ``NO_LAYERS``."""
    (user / "vmctl").mkdir(parents=True, exist_ok=True)
    (user / "vmctl" / "Vmfile").write_text(NO_LAYERS)
    return user


def _until_cleaned_up(project: ProjectDirectory) -> Iterator[ProjectDirectory]:
    try:
        yield project
    finally:
        project.clean_up()


__all__ = ["GID", "ProjectDirectory", "domains", "fetch", "virsh", "volumes"]
