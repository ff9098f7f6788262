"""A user's day with containers, by the command line, on a real LXD."""

from __future__ import annotations

import json
import os
import re
import socket
import time

import pytest

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


class TestDay:
    def test_up(self, container_day: ProjectDirectory, lxd_server: Lxd) -> None:
        for name in ("src", "fixed"):
            (container_day.root / name).mkdir()
            (container_day.root / name / "file").write_text(f"{name} of the host\n")
            for path in (container_day.root / name, container_day.root / name / "file"):
                os.chown(path, FOLDER_OWNER, FOLDER_OWNER)
        container_day.write("Vmfile", VMFILE)
        container_day.write("site.yml", PLAYBOOK)
        container_day.vmctl("up")
        assert container_day.states() == {"web": "running", "db": "running"}
        assert container_day.ssh("cat /etc/made-by-ansible; hostname; id -u", "web").split() == ["web", "web", "1000"]
        assert len(lxd_server.instances()) == 2

    def test_nothing_to_do(self, container_day: ProjectDirectory) -> None:
        assert container_day.vmctl("up", "--json").answer["changed"] is False

    def test_a_provisioner_that_fails_is_not_recorded_and_is_tried_again(self, container_day: ProjectDirectory) -> None:
        container_day.write("broken.yml", BROKEN_PLAYBOOK)
        container_day.write("Vmfile", VMFILE.replace("playbook: site.yml", "playbook: broken.yml"))
        for _ in range(2):
            assert "Break on purpose" in container_day.vmctl("up", status=4).err
        container_day.write("broken.yml", BROKEN_PLAYBOOK.replace("exit 3", "exit 0"))
        container_day.vmctl("up")
        assert "nothing to do" in container_day.vmctl("up").out
        container_day.write("Vmfile", VMFILE)

    def test_a_folder_both_ways(self, container_day: ProjectDirectory) -> None:
        said = container_day.ssh("cat /srv/src/file; stat -c %u:%g /srv/src/file; echo back >/srv/src/of-guest", "web")
        assert said.splitlines() == ["src of the host", f"{FOLDER_OWNER}:{FOLDER_OWNER}"]
        written = container_day.root / "src" / "of-guest"
        assert (written.read_text(), written.stat().st_uid) == ("back\n", FOLDER_OWNER)
        refused = container_day.ssh("sudo touch /srv/fixed/x 2>&1 || true; cat /srv/fixed/file", "web")
        assert "Read-only file system" in refused
        assert "fixed of the host" in refused

    def test_file_events_arrive(self, container_day: ProjectDirectory) -> None:
        watch = (
            "import ctypes, os; c = ctypes.CDLL(None); d = c.inotify_init(); c.inotify_add_watch(d, b'/srv/src', 0x100)"
            "; print('ready', flush=True); print(os.read(d, 4096)[16:].rstrip(bytes(1)).decode())"
        )
        child = container_day.start("ssh", "web", "-c", f'python3 -u -c "{watch}"')
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        (container_day.root / "src" / "new").touch()
        assert child.stdout.readline() == "new\n"
        child.wait(timeout=30)

    def test_ports_networks_and_limits(self, container_day: ProjectDirectory) -> None:
        serve = "sudo systemd-run --quiet --unit=served -- python3 -m http.server -d /srv/fixed 8000"
        container_day.ssh(serve, "web")
        deadline = time.monotonic() + 30
        answer = b""
        while b"fixed of the host" not in answer:
            assert time.monotonic() < deadline
            answer = _get(18000)
        container_day.ssh("ping -c 1 -W 5 192.168.60.11 && ping -c 1 -W 5 db", "web")

    def test_ports_follow_the_vmfile_while_it_runs(self, container_day: ProjectDirectory) -> None:
        started = container_day.ssh("cat /proc/sys/kernel/random/boot_id; uptime --since", "web")
        login = container_day.start("ssh", "web", "-c", "until test -e /tmp/done; do sleep 0.1; done; echo alive")
        container_day.write("Vmfile", VMFILE.replace("host: 18000}", "host: 18002}, 'auto:9000/udp'"))
        ran = container_day.vmctl("up", "--json")
        assert "changing its ports" in [row.get("text") for row in ran.objects()]
        assert b"fixed of the host" in _get(18002)
        assert _get(18000) == b"", "nobody listens there any more"
        assert container_day.ssh("cat /proc/sys/kernel/random/boot_id; uptime --since", "web") == started
        container_day.write("Vmfile", VMFILE)
        container_day.vmctl("up")
        assert b"fixed of the host" in _get(18000)
        assert container_day.vmctl("up", "--json").answer["changed"] is False
        container_day.ssh("touch /tmp/done", "web")
        assert login.communicate(timeout=30)[0] == "alive\n", "logins are not cut off"

    def test_halt_and_up_again(self, container_day: ProjectDirectory) -> None:
        container_day.vmctl("halt")
        assert container_day.states() == {"web": "stopped", "db": "stopped"}
        container_day.vmctl("up")
        assert container_day.ssh("cat /srv/src/file", "web") == "src of the host\n"

    def test_what_containers_cannot_do_is_refused(self, container_day: ProjectDirectory) -> None:
        refused = container_day.vmctl("suspend", "web", status=3)
        assert "the provider incus cannot suspend machines" in refused.err

    def test_a_packaged_container_is_a_box_that_comes_up(
        self, container_day: ProjectDirectory, lxd_server: Lxd
    ) -> None:
        who = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub ~/.ssh/authorized_keys"
        old = set(container_day.ssh(f"echo kept | sudo tee /etc/kept >/dev/null; {who}", "db").splitlines())
        container_day.vmctl("halt", "db")
        container_day.vmctl("package", "db", "--output", "db.box")
        assert container_day.states()["db"] == "stopped"
        assert all(image["properties"]["vmctl"] == "box" for image in json.loads(lxd_server.client("query", IMAGES)))
        container_day.vmctl("box", "add", "db.box", "--name", "of-db")
        container_day.write("Vmfile", VMFILE.replace("  db:\n", "  again: {box: of-db, memory: 256MiB}\n  db:\n"))
        refused = container_day.vmctl("box", "publish", "of-db", "there", status=2)
        assert "is for containers alone" in refused.err
        container_day.vmctl("up", "again")
        said = container_day.ssh(f"hostname; id -u; cat /etc/kept; {who}; sudo ls /root/.ssh || true", "again")
        assert said.split("\n")[:3] == ["again", "1000", "kept"]
        assert not old & set(said.splitlines())
        container_day.vmctl("destroy", "--yes", "again")
        container_day.write("Vmfile", VMFILE)

    def test_snapshots(self, container_day: ProjectDirectory) -> None:
        container_day.vmctl("snapshot", "save", "before", "web")
        container_day.ssh("sudo rm /etc/made-by-ansible", "web")
        container_day.vmctl("snapshot", "restore", "before", "web")
        assert container_day.ssh("cat /etc/made-by-ansible", "web") == "web\n"

    def test_reload_follows_the_vmfile(self, container_day: ProjectDirectory) -> None:
        container_day.write("Vmfile", VMFILE.replace("18000", "18001"))
        container_day.vmctl("reload", "web")
        container_day.ssh("sudo systemd-run --quiet --unit=served -- python3 -m http.server -d /srv/fixed 8000", "web")
        deadline = time.monotonic() + 30
        while b"fixed of the host" not in _get(18001):
            assert time.monotonic() < deadline
        assert re.search("Welcome to .*Debian", container_day.vmctl("logs", "web").out)

    def test_destroy_leaves_nothing(self, container_day: ProjectDirectory, lxd_server: Lxd) -> None:
        container_day.vmctl("destroy", "--yes")
        assert lxd_server.instances() == []
        assert "vmctl: network" not in lxd_server.client("network", "list", "--format", "csv")


def _get(port: int) -> bytes:
    time.sleep(0.05)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /file HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        return b""
