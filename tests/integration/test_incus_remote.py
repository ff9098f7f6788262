"""Containers on another host, over HTTPS: certificates as `lxc` keeps them, SSH to the member that has the machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import lxd_cluster
from tests.host.lxd_cluster import Cluster
from tests.integration.conftest import ProjectDirectory
from vmctl.wait import Deadline, until

pytestmark = pytest.mark.integration
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
machines: {one: {}, two: {}}
"""
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
    place = tmp_path_factory.mktemp("lxc")
    token = cluster.a.lxc("config", "trust", "add", "--name", "vmctl").split()[-1]
    own = {**os.environ, "LXD_CONF": str(place)}
    subprocess.run(["lxc", "remote", "add", "lab", token], env=own, check=True, stdin=subprocess.DEVNULL)
    return place


@pytest.fixture(scope="class")
def project(
    private_host: Path, box_home: Path, client: Path, request: pytest.FixtureRequest
) -> Iterator[ProjectDirectory]:
    root = private_host / "projects" / request.node.name
    root.mkdir(parents=True)
    own = {"VMCTL_HOME": str(box_home), "VMCTL_PROVIDER": "incus", "LXD_CONF": str(client)}
    project = ProjectDirectory(root, own)
    project.write("Vmfile", VMFILE.format(target="b"))
    project.write("page", "of this host\n")
    yield project
    project.clean_up()


class TestDay:
    def test_up(self, project: ProjectDirectory, cluster: Cluster) -> None:
        project.vmctl("up")
        assert project.states() == {"web": "running"}
        assert project.ssh("hostname; cat /project/page", "web").split("\n") == ["web", "of this host", ""]
        (row,) = cluster.a.lxc("list", "--format", "csv", "--columns", "nL").splitlines()
        assert row.endswith(",b")
        assert project.vmctl("up", "--json").answer["changed"] is False

    def test_ssh_listens_on_that_members_address_alone(self, project: ProjectDirectory, cluster: Cluster) -> None:
        argv = ["nsenter", f"--net=/run/netns/{cluster.b.name}", "ss", "-H", "-l", "-t", "-n"]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        listening = [line.split()[3] for line in said.splitlines()]
        own = [each for each in listening if not each.endswith(":8443")]
        assert len(own) == 1
        assert re.fullmatch(r"10\.78\.0\.2:2\d{4}", own[0])

    def test_a_port_that_is_taken_there_is_left_for_another(self, project: ProjectDirectory, cluster: Cluster) -> None:
        (name,) = cluster.a.instances()
        listen = cluster.a.lxc("config", "device", "get", name, "ssh", "listen").strip()
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
        assert cluster.a.lxc("config", "device", "get", name, "ssh", "listen").strip() != listen

    def test_what_cannot_be_elsewhere_is_refused(self, project: ProjectDirectory) -> None:
        project.vmctl("halt")
        project.write("Vmfile", VMFILE.format(target="a"))
        assert "incus.target: the machine is on b" in project.vmctl("up", status=2).err
        project.write("Vmfile", VMFILE.format(target="b").replace("}}\n", "}, ports: ['auto:8000']}\n"))
        assert "ports: are not supported on other hosts yet" in project.vmctl("up", status=2).err
        project.write("Vmfile", VMFILE.format(target="nowhere"))
        assert "the cluster has no member 'nowhere'" in project.vmctl("up", status=2).err
        project.write("Vmfile", VMFILE.format(target="b"))

    @pytest.mark.parametrize(
        ("file", "said"),
        [
            ("servercerts/lab.crt", "shows another certificate than the one"),
            ("client.crt", "does not know this user's certificate"),
        ],
    )
    def test_wrong_certificates_are_refused(
        self, project: ProjectDirectory, client: Path, tmp_path: Path, file: str, said: str
    ) -> None:
        kept = shutil.copytree(client, tmp_path / "kept")
        subject = ["-subj", "/CN=else", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        other = ["-out", str(client / file), "-keyout", str(tmp_path / "key")]
        subprocess.run(["openssl", "req", "-x509", *subject, *other], check=True, capture_output=True)
        if file == "client.crt":
            shutil.copy(tmp_path / "key", client / "client.key")
        try:
            ran = project.vmctl("status", status=5)
        finally:
            shutil.copytree(kept, client, dirs_exist_ok=True)
        assert said in ran.err
        assert project.states() == {"web": "stopped"}

    def test_destroy_leaves_nothing(self, project: ProjectDirectory, cluster: Cluster) -> None:
        project.vmctl("destroy", "--yes")
        assert cluster.a.instances() == []


class TestAFleetOverAllMembers:
    def test_up_spreads(self, project: ProjectDirectory) -> None:
        project.write("Vmfile", FLEET)
        rows = project.vmctl("up", "--json").answer["machines"]
        assert {row["member"] for row in rows} == {"a", "b"}
        assert {name: project.ssh("hostname", name) for name in ("one", "two")} == {"one": "one\n", "two": "two\n"}

    def test_a_member_dies_and_comes_back(self, project: ProjectDirectory, cluster: Cluster) -> None:
        before = {row["name"]: row for row in project.vmctl("status", "--json").answer["machines"]}
        (lost,) = [name for name, row in before.items() if row["member"] == "b"]
        (left,) = before.keys() - {lost}
        cluster.kill(cluster.b)
        try:
            states = {left: "running", lost: "unknown (member b does not answer)"}
            assert project.states() == states
            assert "incus on b" in project.vmctl("status", lost).out
            refused = project.vmctl("up", status=5)
            assert "is on the cluster member b, which does not answer" in refused.err
            project.vmctl("destroy", "--yes", lost, status=5)
            listed = project.vmctl("list", "--json").answer["machines"]
            assert {row["name"]: row["state"] for row in listed} == {left: "running", lost: "unknown"}
            assert project.ssh("hostname", left) == f"{left}\n"
        finally:
            cluster.run(cluster.b)
        until(lambda: project.states() == dict.fromkeys(before, "running"), Deadline.after(20), "member b")
        assert project.vmctl("up", "--json").answer["changed"] is False
        assert project.ssh("hostname", lost) == f"{lost}\n"

    def test_destroy_leaves_nothing(self, project: ProjectDirectory, cluster: Cluster) -> None:
        project.vmctl("destroy", "--yes")
        assert cluster.a.instances() == []
