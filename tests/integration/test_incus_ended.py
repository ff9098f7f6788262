"""`up` and `destroy` with containers that are killed or interrupted at each step: the next command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from tests.host.lxd import FOLDER_OWNER, Lxd
from tests.integration.conftest import ProjectDirectory
from vmctl_incus.observation import KEPT

pytestmark = pytest.mark.integration

VMFILE = """
box: debian-12
memory: 256MiB
ports: [{guest: 8000, host: auto}]
networks: [{name: back, ip: 192.168.61.10}]
synced_folders: [{host: src, guest: /srv/src}]
"""
MOMENTS = [("create", 0.0), ("create", 0.1), ("create", 0.3), ("start", 0.0), ("start", 0.2), ("await_ssh", 0.0)]
"""Steps, and seconds into them."""
LATER = [("share_folders", 0.0), ("mark_ready", 0.0)]


def at(project: ProjectDirectory, verb: str, step: str, seconds: float = 0.0) -> subprocess.Popen[str]:
    """Start a verb and wait until it is in a step."""
    child = project.start(verb, "--json", *(["--yes"] if verb == "destroy" else []))
    assert child.stdout is not None
    assert any(json.loads(line).get("step") == step for line in child.stdout), f"`{verb}` ended before {step}"
    time.sleep(seconds)
    return child


def kill(child: subprocess.Popen[str]) -> None:
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()


def interrupt(child: subprocess.Popen[str], status: tuple[int, ...] = (130,)) -> list[str]:
    """Ctrl-C; the steps that began after the one that the child was in."""
    sent = time.monotonic()
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert time.monotonic() - sent < 10
    assert child.returncode in status
    rows = [json.loads(line) for line in out.splitlines()]
    return [row["step"] for row in rows if row.get("event") == "step-started"]


def left_over(server: Lxd) -> list[str]:
    """What vmctl has made on the server, besides the image of the box, and what still goes on there."""
    networks = server.client("network", "list", "--format", "csv").splitlines()
    return [*server.instances(), *(line for line in networks if "vmctl: network" in line), *going_on(server)]


def going_on(server: Lxd) -> list[str]:
    """What the server still does with machines; a ground that a killed `up` was making is the box's, not theirs."""
    listed = json.loads(server.client("query", "/1.0/operations?recursion=1") or "{}")  # "{}" is not printed
    paths = [path for each in listed.get("running", []) for path in each["resources"].get("instances", [])]
    return [path for path in paths if not KEPT.fullmatch(path.rpartition("/")[2])]


class TestAnUpThatIsEnded:
    @pytest.fixture
    def project(self, container_day: ProjectDirectory) -> ProjectDirectory:
        if not (container_day.root / "src").exists():
            container_day.write("Vmfile", VMFILE)
            (container_day.root / "src").mkdir()
            os.chown(container_day.root / "src", FOLDER_OWNER, FOLDER_OWNER)
        return container_day

    @pytest.mark.parametrize(("step", "seconds"), MOMENTS)
    def test_killed_then_destroy_leaves_nothing(
        self, project: ProjectDirectory, lxd_server: Lxd, step: str, seconds: float
    ) -> None:
        kill(at(project, "up", step, seconds))
        project.vmctl("destroy", "--yes")
        assert left_over(lxd_server) == []

    @pytest.mark.parametrize(("step", "seconds"), MOMENTS[:3])
    def test_ctrl_c_while_it_creates_leaves_nothing(
        self, project: ProjectDirectory, lxd_server: Lxd, step: str, seconds: float
    ) -> None:
        if interrupt(at(project, "up", step, seconds)):  # a quick server was through with it, so it stays
            assert seconds
            project.vmctl("destroy", "--yes")
        assert left_over(lxd_server) == []
        assert project.states() == {"default": "not created"}

    def test_killed_at_each_step_in_turn(self, project: ProjectDirectory) -> None:
        for step, seconds in [MOMENTS[1], *MOMENTS[3:], *LATER]:
            kill(at(project, "up", step, seconds))
            if step == "start":
                project.vmctl("halt", "--force")
        project.vmctl("up")
        assert project.ssh("findmnt -no TARGET /srv/src") == "/srv/src\n"

    def test_ctrl_c_at_each_step_in_turn(self, project: ProjectDirectory, lxd_server: Lxd) -> None:
        project.vmctl("halt", "--force")
        for step, seconds in [*MOMENTS[3:], *LATER]:
            interrupt(at(project, "up", step, seconds))
            assert going_on(lxd_server) == []
            if step == "start":
                project.vmctl("halt", "--force")
        project.vmctl("up")
        assert project.ssh("findmnt -no TARGET /srv/src") == "/srv/src\n"

    @pytest.mark.parametrize("step", ["power_off", "destroy", "forget"])
    def test_destroy_that_is_killed_goes_on(self, project: ProjectDirectory, lxd_server: Lxd, step: str) -> None:
        project.vmctl("up")
        kill(at(project, "destroy", step))
        project.vmctl("destroy", "--yes")
        assert left_over(lxd_server) == []

    @pytest.mark.parametrize("step", ["power_off", "destroy"])
    def test_destroy_that_is_interrupted_goes_on(self, project: ProjectDirectory, lxd_server: Lxd, step: str) -> None:
        project.vmctl("up")
        interrupt(at(project, "destroy", step), (0, 130))
        project.vmctl("destroy", "--yes")
        assert left_over(lxd_server) == []
