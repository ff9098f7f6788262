"""A user's day with containers, by the command line, on a real LXD and, what both must do alike, on a real Incus."""

from __future__ import annotations

import json
import os
import re
import socket
import time

import pytest

from tests.host.incus import Incus
from tests.host.lxd import FOLDER_OWNER, Lxd
from tests.integration.conftest import ProjectDirectory

pytestmark = pytest.mark.integration

VMFILE = """
machines:
  web:
    box: debian-12
    memory: 256MiB
    ports: [{guest: 8000, host: 18000}]
    networks: [{name: back, ip: 192.168.60.10}]
    synced_folders:
      - {host: src, guest: /srv/src}
      - {host: fixed, guest: /srv/fixed, read_only: true}
  db:
    box: debian-12
    memory: 256MiB
    networks: [{name: back, ip: 192.168.60.11}]
provision:
  - ansible: {playbook: site.yml}
"""
IMAGES = "/1.0/images?recursion=1"
PLAYBOOK = """
- hosts: all
  become: true
  tasks:
    - copy: {dest: /etc/made-by-ansible, content: "{{ inventory_hostname }}\\n"}
"""
BROKEN_PLAYBOOK = """
- hosts: db
  gather_facts: false
  tasks:
    - name: Break on purpose
      ansible.builtin.raw: exit 3
"""


class Day:
    """What both servers must do alike; each test goes on where the one before ended."""

    def test_up(self, project: ProjectDirectory, server: Lxd) -> None:
        for name in ("src", "fixed"):
            (project.root / name).mkdir()
            (project.root / name / "file").write_text(f"{name} of the host\n")
            for path in (project.root / name, project.root / name / "file"):
                os.chown(path, FOLDER_OWNER, FOLDER_OWNER)
        project.write("Vmfile", VMFILE)
        project.write("site.yml", PLAYBOOK)
        project.vmctl("up")
        assert project.states() == {"web": "running", "db": "running"}
        assert project.ssh("cat /etc/made-by-ansible; hostname; id -u", "web").split() == ["web", "web", "1000"]
        assert len(server.instances()) == 2

    def test_nothing_to_do(self, project: ProjectDirectory) -> None:
        assert project.vmctl("up", "--json").answer["changed"] is False

    def test_a_folder_both_ways(self, project: ProjectDirectory) -> None:
        said = project.ssh("cat /srv/src/file; stat -c %u:%g /srv/src/file; echo back >/srv/src/of-guest", "web")
        assert said.splitlines() == ["src of the host", f"{FOLDER_OWNER}:{FOLDER_OWNER}"]
        written = project.root / "src" / "of-guest"
        assert (written.read_text(), written.stat().st_uid) == ("back\n", FOLDER_OWNER)
        refused = project.ssh("sudo touch /srv/fixed/x 2>&1 || true; cat /srv/fixed/file", "web")
        assert "Read-only file system" in refused
        assert "fixed of the host" in refused

    def test_file_events_arrive(self, project: ProjectDirectory) -> None:
        watch = (
            "import ctypes, os; c = ctypes.CDLL(None); d = c.inotify_init(); c.inotify_add_watch(d, b'/srv/src', 0x100)"
            "; print('ready', flush=True); print(os.read(d, 4096)[16:].rstrip(bytes(1)).decode())"
        )
        child = project.start("ssh", "web", "-c", f'python3 -u -c "{watch}"')
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        (project.root / "src" / "new").touch()
        assert child.stdout.readline() == "new\n"
        child.wait(timeout=30)

    def test_ports_networks_and_limits(self, project: ProjectDirectory) -> None:
        serve = "sudo systemd-run --quiet --unit=served -- python3 -m http.server -d /srv/fixed 8000"
        project.ssh(serve, "web")
        deadline = time.monotonic() + 30
        answer = b""
        while b"fixed of the host" not in answer:
            assert time.monotonic() < deadline
            answer = _get(18000)
        project.ssh("ping -c 1 -W 5 192.168.60.11 && ping -c 1 -W 5 db", "web")

    def test_halt_and_up_again(self, project: ProjectDirectory) -> None:
        project.vmctl("halt")
        assert project.states() == {"web": "stopped", "db": "stopped"}
        project.vmctl("up")
        assert project.ssh("cat /srv/src/file", "web") == "src of the host\n"

    def test_snapshots(self, project: ProjectDirectory) -> None:
        project.vmctl("snapshot", "save", "before", "web")
        project.ssh("sudo rm /etc/made-by-ansible", "web")
        project.vmctl("snapshot", "restore", "before", "web")
        assert project.ssh("cat /etc/made-by-ansible", "web") == "web\n"

    def test_reload_follows_the_vmfile(self, project: ProjectDirectory) -> None:
        project.write("Vmfile", VMFILE.replace("18000", "18001"))
        project.vmctl("reload", "web")
        project.ssh("sudo systemd-run --quiet --unit=served -- python3 -m http.server -d /srv/fixed 8000", "web")
        deadline = time.monotonic() + 30
        while b"fixed of the host" not in _get(18001):
            assert time.monotonic() < deadline
        assert re.search("Welcome to .*Debian", project.vmctl("logs", "web").out)


class TestDay(Day):
    @pytest.fixture
    def project(self, container_day: ProjectDirectory) -> ProjectDirectory:
        return container_day

    @pytest.fixture
    def server(self, lxd_server: Lxd) -> Lxd:
        return lxd_server

    def test_a_provisioner_that_fails_is_not_recorded_and_is_tried_again(self, project: ProjectDirectory) -> None:
        project.write("broken.yml", BROKEN_PLAYBOOK)
        project.write("Vmfile", VMFILE.replace("playbook: site.yml", "playbook: broken.yml"))
        for _ in range(2):
            assert "Break on purpose" in project.vmctl("up", status=4).err
        project.write("broken.yml", BROKEN_PLAYBOOK.replace("exit 3", "exit 0"))
        project.vmctl("up")
        assert "nothing to do" in project.vmctl("up").out
        project.write("Vmfile", VMFILE)

    def test_ports_follow_the_vmfile_while_it_runs(self, project: ProjectDirectory) -> None:
        started = project.ssh("cat /proc/sys/kernel/random/boot_id; uptime --since", "web")
        login = project.start("ssh", "web", "-c", "until test -e /tmp/done; do sleep 0.1; done; echo alive")
        project.write("Vmfile", VMFILE.replace("host: 18000}", "host: 18002}, 'auto:9000/udp'"))
        ran = project.vmctl("up", "--json")
        assert "changing its ports" in [row.get("text") for row in ran.objects()]
        assert b"fixed of the host" in _get(18002)
        assert _get(18000) == b"", "nobody listens there any more"
        assert project.ssh("cat /proc/sys/kernel/random/boot_id; uptime --since", "web") == started
        project.write("Vmfile", VMFILE)
        project.vmctl("up")
        assert b"fixed of the host" in _get(18000)
        assert project.vmctl("up", "--json").answer["changed"] is False
        project.ssh("touch /tmp/done", "web")
        assert login.communicate(timeout=30)[0] == "alive\n", "logins are not cut off"

    def test_what_containers_cannot_do_is_refused(self, project: ProjectDirectory) -> None:
        refused = project.vmctl("suspend", "web", status=3)
        assert "the provider incus cannot suspend machines" in refused.err

    def test_a_packaged_container_is_a_box_that_comes_up(self, project: ProjectDirectory, server: Lxd) -> None:
        who = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub ~/.ssh/authorized_keys"
        old = set(project.ssh(f"echo kept | sudo tee /etc/kept >/dev/null; {who}", "db").splitlines())
        project.vmctl("halt", "db")
        project.vmctl("package", "db", "--output", "db.box")
        assert project.states()["db"] == "stopped"
        assert all(image["properties"]["vmctl"] == "box" for image in json.loads(server.client("query", IMAGES)))
        project.vmctl("box", "add", "db.box", "--name", "of-db")
        project.write("Vmfile", VMFILE.replace("  db:\n", "  again: {box: of-db, memory: 256MiB}\n  db:\n"))
        refused = project.vmctl("box", "publish", "of-db", "there", status=2)
        assert "is for containers alone" in refused.err
        project.vmctl("up", "again")
        said = project.ssh(f"hostname; id -u; cat /etc/kept; {who}; sudo ls /root/.ssh || true", "again")
        assert said.split("\n")[:3] == ["again", "1000", "kept"]
        assert not old & set(said.splitlines())
        project.vmctl("destroy", "--yes", "again")
        project.write("Vmfile", VMFILE)

    def test_destroy_leaves_nothing(self, project: ProjectDirectory, server: Lxd) -> None:
        check_destroyed(project, server)


class TestDayOnIncus(Day):
    @pytest.fixture
    def project(self, incus_day: ProjectDirectory) -> ProjectDirectory:
        return incus_day

    @pytest.fixture
    def server(self, incus_server: Incus) -> Lxd:
        return incus_server

    def test_destroy_leaves_nothing(self, project: ProjectDirectory, server: Lxd) -> None:
        check_destroyed(project, server)


def check_destroyed(project: ProjectDirectory, server: Lxd) -> None:
    project.vmctl("destroy", "--yes")
    assert server.instances() == []
    assert "vmctl: network" not in server.client("network", "list", "--format", "csv")


def _get(port: int) -> bytes:
    time.sleep(0.05)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /file HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        return b""
