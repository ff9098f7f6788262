"""Containers on another host, over HTTPS: certificates as clients keep them, SSH to the member that has the machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.host import lxd_cluster
from tests.host.incus import Incus
from tests.host.lxd import Lxd
from tests.host.lxd_cluster import Cluster
from tests.integration.conftest import VMCTL, ProjectDirectory, Run
from vmctl.wait import Deadline, until
from vmctl_incus import networks

pytestmark = pytest.mark.integration
ADDRESS = Incus.ADDRESS.partition("/")[0]
"""Of the bridge of the server that is in no cluster."""
VMFILE = """
incus: {{remote: lab}}
box: debian-12
memory: 256MiB
machines:
  web: {{incus: {{target: {target}}}}}
"""


FLEET = """
incus: {remote: lab}
box: debian-12
memory: 256MiB
synced_folders: []
machines: {one: {}, two: {}, three: {}}
"""
NETWORKED = """
incus: {{remote: lab}}
box: debian-12
memory: 256MiB
synced_folders: []
machines:
  one: {{incus: {{target: {one}}}, networks: [{{name: back, ip: 192.168.62.11}}]}}
  two: {{incus: {{target: {two}}}, networks: [{{name: back, ip: 192.168.62.12}}]}}
  three: {{incus: {{target: {three}}}, networks: [{{name: back, ip: 192.168.62.13}}]}}
"""
SINGLE = """
incus: {remote: lab}
box: debian-12
memory: 256MiB
networks: [{name: back, ip: 192.168.63.10}]
"""
BOUND = 45.0
"""Seconds for a command while the cluster has not noticed yet; any of its questions may take half a minute."""
WRONG = [
    ("servercerts/lab.crt", "shows another certificate than the one"),
    ("client.crt", "does not know this user's certificate"),
]
TAKE = """
import socket, sys, time
while True:
    try:
        taken = socket.create_server(("", int(sys.argv[1])))
        break
    except OSError as error:  # the end of an instance takes a moment longer than its last word
        print(error, file=sys.stderr)
        time.sleep(0.1)
print("taken", flush=True)
time.sleep(99)
"""


@pytest.fixture(scope="module")
def cluster(private_host: Path) -> Cluster:
    return lxd_cluster.started(private_host)


@pytest.fixture(scope="module")
def client(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of lxc's, with the remote "lab"."""
    return client_of(cluster.a, tmp_path_factory.mktemp("lxc"))


def client_of(server: Lxd, place: Path) -> Path:
    token = server.client(*server.TRUST).split()[-1]
    own = {**os.environ, server.CONFIGURATION: str(place)}
    subprocess.run([server.words[0], "remote", "add", "lab", token], env=own, check=True, stdin=subprocess.DEVNULL)
    return place


@pytest.fixture(scope="class")
def project(
    private_host: Path, box_home: Path, client: Path, request: pytest.FixtureRequest
) -> Iterator[ProjectDirectory]:
    project = project_of(private_host / "projects" / request.node.name, box_home, client)
    project.write("Vmfile", VMFILE.format(target="b"))
    yield project
    project.clean_up()


def project_of(root: Path, box_home: Path, client: Path, variable: str = "LXD_CONF") -> ProjectDirectory:
    root.mkdir(parents=True)
    own = {"VMCTL_HOME": str(box_home), "VMCTL_PROVIDER": "incus", variable: str(client)}
    project = ProjectDirectory(root, own)
    project.write("page", "of this host\n")
    return project


@contextmanager
def another_certificate(client: Path, place: Path, file: str) -> Iterator[None]:
    """Have a client show, or expect, another one than that which was agreed on."""
    kept = shutil.copytree(client, place / "kept")
    subject = ["-subj", "/CN=else", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    other = ["-out", str(client / file), "-keyout", str(place / "key")]
    subprocess.run(["openssl", "req", "-x509", *subject, *other], check=True, capture_output=True)
    if file == "client.crt":
        shutil.copy(place / "key", client / "client.key")
    try:
        yield
    finally:
        shutil.copytree(kept, client, dirs_exist_ok=True)


class TestDay:
    def test_up(self, project: ProjectDirectory, cluster: Cluster) -> None:
        project.vmctl("up")
        assert project.states() == {"web": "running"}
        assert project.ssh("hostname; cat /project/page", "web").split("\n") == ["web", "of this host", ""]
        (name,) = cluster.a.instances()
        assert cluster.a.client("list", name, "--format", "csv", "--columns", "L") == "b\n"
        assert project.vmctl("up", "--json").answer["changed"] is False

    def test_others_get_there_by_the_same_way(self, project: ProjectDirectory, cluster: Cluster) -> None:
        assert "HostName 10.78.0.2" in project.vmctl("ssh-config", "web").out
        assert "web: nothing (on b)" in project.vmctl("plan").out
        project.vmctl("inventory", "--install")
        place = project.root / ".vmctl" / "ansible-inventory"
        words = ["ansible", "-i", str(place), "web", "-m", "ansible.builtin.raw", "-a", "hostname"]
        path = f"{VMCTL.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, **project.environment, "PATH": path}
        done = subprocess.run(words, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
        assert "rc=0 >>\nweb" in done.stdout, done.stdout + done.stderr

    def test_ssh_listens_on_that_members_address_alone(self, project: ProjectDirectory, cluster: Cluster) -> None:
        argv = ["nsenter", f"--net=/run/netns/{cluster.b.name}", "ss", "-H", "-l", "-t", "-n"]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        listening = [line.split()[3] for line in said.splitlines()]
        own = [each for each in listening if not each.endswith(":8443")]
        assert len(own) == 1
        assert re.fullmatch(r"10\.78\.0\.2:2\d{4}", own[0])

    def test_a_port_that_is_taken_there_is_left_for_another(self, project: ProjectDirectory, cluster: Cluster) -> None:
        (name,) = cluster.a.instances()
        listen = cluster.a.client("config", "device", "get", name, "ssh", "listen").strip()
        project.vmctl("halt")
        port = listen.rpartition(":")[2]
        argv = ["nsenter", f"--net=/run/netns/{cluster.b.name}", sys.executable, "-c", TAKE, port]
        taker = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        try:
            assert taker.stdout is not None
            assert taker.stdout.readline() == "taken\n"
            project.vmctl("up")
        finally:
            taker.kill()
            taker.communicate()
        assert project.ssh("hostname", "web") == "web\n"
        assert cluster.a.client("config", "device", "get", name, "ssh", "listen").strip() != listen

    def test_what_another_host_cannot_have_is_refused(self, project: ProjectDirectory) -> None:
        project.vmctl("halt")
        project.write("Vmfile", VMFILE.format(target="a"))
        assert "incus.target: the machine is on b" in project.vmctl("up", status=2).err
        project.write("Vmfile", VMFILE.format(target="b").replace("}}\n", "}, ports: ['auto:8000']}\n"))
        assert "ports: are not supported on other hosts yet" in project.vmctl("up", status=2).err
        project.write("Vmfile", VMFILE.format(target="nowhere"))
        assert "the cluster has no member 'nowhere'" in project.vmctl("up", status=2).err
        project.write("Vmfile", VMFILE.format(target="b"))

    @pytest.mark.parametrize(("file", "said"), WRONG)
    def test_wrong_certificates_are_refused(
        self, project: ProjectDirectory, client: Path, tmp_path: Path, file: str, said: str
    ) -> None:
        with another_certificate(client, tmp_path, file):
            assert said in project.vmctl("status", status=5).err
        assert project.states() == {"web": "stopped"}

    def test_destroy_leaves_nothing(self, project: ProjectDirectory, cluster: Cluster) -> None:
        project.vmctl("destroy", "--yes")
        assert cluster.a.instances() == []

    def test_copies_of_boxes_there_are_known_until_they_are_pruned(
        self, project: ProjectDirectory, cluster: Cluster, client: Path, tmp_path: Path
    ) -> None:
        (image,) = _images(cluster.a)
        elsewhere = ("-C", str(tmp_path))
        assert image in [one["key"] for one in project.vmctl(*elsewhere, "cache", "list", "--json").answer["boxes"]]
        file, said = WRONG[0]
        with another_certificate(client, tmp_path, file):
            ran = project.vmctl(*elsewhere, "cache", "prune", "--all")
        assert said in ran.err
        assert f"what https://{cluster.a.address}:8443#default keeps is left out" in ran.err
        assert _images(cluster.a) == [image]
        assert image in project.vmctl(*elsewhere, "cache", "prune", "--all", "--json").answer["removed"]
        assert _images(cluster.a) == []
        with another_certificate(client, tmp_path / "forgotten", file):
            assert said not in project.vmctl(*elsewhere, "cache", "list").err


class TestAFleetOverAllMembers:
    def test_up_spreads(self, project: ProjectDirectory, cluster: Cluster) -> None:
        project.write("Vmfile", FLEET)
        # Tests before this left copies of boxes: to the server, those are instances that a member has already.
        for name in cluster.a.client("list", "--format", "csv", "--columns", "n").split():
            cluster.a.client("delete", name)
        rows = project.vmctl("up", "--json").answer["machines"]
        assert sorted(row["member"] for row in rows) == ["a", "b", "c"]
        assert [project.ssh("hostname", row["name"]) for row in rows] == [f"{row['name']}\n" for row in rows]

    @pytest.mark.parametrize("trouble", ["dead", "hanging"])
    def test_a_member_is_away_and_comes_back(self, project: ProjectDirectory, cluster: Cluster, trouble: str) -> None:
        rows = project.vmctl("status", "--json").answer["machines"]
        (lost,) = (row["name"] for row in rows if row["member"] == "b")
        running = {row["name"]: "running" for row in rows}
        with getattr(cluster, trouble)(cluster.b):
            assert project.vmctl("status", timeout=BOUND).out.count("unknown (member b does not answer)") == 1
            assert project.states() == {**running, lost: "unknown (member b does not answer)"}
            assert "incus on b" in project.vmctl("status", lost).out
            for words in (["up"], ["destroy", "--yes", lost]):
                refused = project.vmctl(*words, status=5, timeout=BOUND)
                assert "is on the cluster member b, which does not answer" in refused.err
            listed = project.vmctl("list", "--json").answer["machines"]
            assert {row["name"]: row["state"] for row in listed} == {**running, lost: "unknown"}
            for name in running.keys() - {lost}:
                assert project.ssh("hostname", name) == f"{name}\n"
        until(lambda: project.states() == running, Deadline.after(30), "member b")
        assert project.vmctl("up", "--json").answer["changed"] is False
        assert project.ssh("hostname", lost) == f"{lost}\n"

    def test_networks_are_bridges_of_each_member(self, project: ProjectDirectory, cluster: Cluster) -> None:
        assert "reach over one member" in self._with_networks(project, "", "reload", status=2).err
        ran = self._with_networks(project, None, "reload")
        assert ran.status == 0
        for name, own in (("one", "192.168.62.11"), ("two", "192.168.62.12"), ("three", "192.168.62.13")):
            assert f" {own}/24 " in project.ssh("ip -4 -o address show dev eth1", name)
            assert " 0% packet loss" in project.ssh("ping -c 1 -W 5 192.168.62.1", name), "its own member's bridge"
        (bridge,) = _networks(cluster.a)
        for member in cluster.members:
            words = ["ip", "-n", member.name, "link", "show", "dev", bridge]
            assert subprocess.run(words, check=False, capture_output=True).returncode == 0

    def _with_networks(self, project: ProjectDirectory, target: str | None, *words: str, status: int = 0) -> Run:
        rows = project.vmctl("status", "--json").answer["machines"]
        members = {row["name"]: row["member"] if target is None else target for row in rows}
        project.write("Vmfile", NETWORKED.format(**members).replace("target: }", "}"))
        return project.vmctl(*words, status=status)

    def test_destroy_leaves_nothing(self, project: ProjectDirectory, cluster: Cluster) -> None:
        project.vmctl("destroy", "--yes")
        assert cluster.a.instances() == []
        assert _networks(cluster.a) == []
        for member in cluster.members:
            links = subprocess.run(["ip", "-n", member.name, "-o", "link"], check=True, capture_output=True, text=True)
            assert ": vm" not in links.stdout


def _images(server: Lxd) -> list[str]:
    """Digests of those that vmctl has brought there."""
    found: list[dict[str, Any]] = json.loads(server.client("query", "/1.0/images?recursion=1"))
    return [each["fingerprint"] for each in found]


def _networks(server: Lxd) -> list[str]:
    """Those that vmctl has made."""
    found: list[dict[str, Any]] = json.loads(server.client("query", "/1.0/networks?recursion=1"))
    return [each["name"] for each in found if networks.NETWORK in each["config"]]


@pytest.fixture(scope="module")
def single_client(incus_server: Incus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    incus_server.client("config", "set", "core.https_address", f"{ADDRESS}:8443")
    yield client_of(incus_server, tmp_path_factory.mktemp("incus"))
    incus_server.client("config", "unset", "core.https_address")


@pytest.fixture(scope="module")
def single(private_host: Path, box_home: Path, single_client: Path) -> Iterator[ProjectDirectory]:
    project = project_of(private_host / "projects" / "single", box_home, single_client, "INCUS_CONF")
    project.write("Vmfile", SINGLE)
    yield project
    project.clean_up()


class TestAServerThatIsNoMember:
    """One server by itself, an Incus, at an address of this host's that is not its loopback."""

    def test_up(self, single: ProjectDirectory) -> None:
        single.vmctl("up")
        assert single.ssh("hostname; cat /project/page").split("\n") == ["default", "of this host", ""]
        assert f"HostName {ADDRESS}\n" in single.vmctl("ssh-config").out
        assert " 192.168.63.10/24 " in single.ssh("ip -4 -o address show dev eth1")
        (row,) = single.vmctl("status", "--json").answer["machines"]
        assert (row["state"], row["member"]) == ("running", None)
        assert single.vmctl("up", "--json").answer["changed"] is False

    @pytest.mark.parametrize(("file", "said"), WRONG)
    def test_wrong_certificates_are_refused(
        self, single: ProjectDirectory, single_client: Path, tmp_path: Path, file: str, said: str
    ) -> None:
        with another_certificate(single_client, tmp_path, file):
            for words in (["status"], ["up"], ["destroy", "--yes"]):
                assert said in single.vmctl(*words, status=5).err
        assert single.states() == {"default": "running"}

    def test_destroy_leaves_nothing(self, single: ProjectDirectory, incus_server: Incus) -> None:
        single.vmctl("destroy", "--yes")
        assert incus_server.instances() == []
        assert _networks(incus_server) == []
