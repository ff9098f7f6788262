"""Real servers behind a jump host: network namespaces of the test host, real sshd, real Ansible, no machine at all."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ProjectDirectory
from tests.integration.netns_servers import LINKS, NetnsServers

pytestmark = pytest.mark.integration

VMFILE = """\
remotes:
  staging:
    user: root
    key: {root}/id
    known_hosts: {root}/known_hosts
    jump: gate
    hosts:
      gate: 10.77.0.2
      web-a: {{address: 10.77.1.2, groups: [webservers]}}
      db-a: {{address: 10.77.2.2}}
  direct:
    user: root
    key: {root}/id
    known_hosts: {root}/known_hosts
    hosts: {{web-a: 10.77.1.2}}
provision:
  - ansible: site.yml
  - shell:
      inline: |
        ip -o -4 address > {place}/address-$SERVER_NAME
        echo "$1" >> {place}/address-$SERVER_NAME
      args: [it's so]
    name: note
  - shell: {{inline: "echo $$ > {place}/begun; while test -e {place}/begun; do sleep 0.2; done"}}
    name: sit
    run: never
"""
PLAYBOOK = """\
- hosts: webservers,db-a
  gather_facts: false
  tasks:
    - name: have it
      ansible.builtin.copy: {{dest: "{place}/{{{{ inventory_hostname }}}}", content: "{{{{ ansible_host }}}}"}}
"""


@pytest.fixture(scope="module")
def servers(test_host: Path) -> Iterator[NetnsServers]:
    root = test_host / "servers"
    root.mkdir()
    made = NetnsServers(root)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def bench(test_host: Path, tmp_path: Path, servers: NetnsServers) -> Iterator[ProjectDirectory]:
    home = tmp_path / "home"
    root = tmp_path / "a project"
    place = tmp_path / "place"
    for path in (home, root, place):
        path.mkdir()
    project = ProjectDirectory(root, {"VMCTL_HOME": str(home), "ANSIBLE_PYTHON_INTERPRETER": sys.executable})
    project.write("Vmfile", VMFILE.format(root=servers.root, place=place))
    project.write("site.yml", PLAYBOOK.format(place=place))
    servers.write_known_hosts()
    yield project
    for child in project.started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def test_a_day_with_servers_behind_a_jump_host(bench: ProjectDirectory, tmp_path: Path, servers: NetnsServers) -> None:
    place = tmp_path / "place"
    staging = ("--target", "staging", "!gate")
    checked = bench.vmctl("provision", *staging, "--check", "--diff", "--json").answer["provisioned"]
    assert {name: row["changed"] for name, row in checked["machines"].items()} == {"web-a": 1, "db-a": 1}
    assert list(place.iterdir()) == []
    bench.vmctl("provision", *staging, "--yes")
    assert {name: (place / name).read_text() for name in ("web-a", "db-a")} == {
        name: LINKS[name][2] for name in ("web-a", "db-a")
    }
    assert all(LINKS[name][2] in (place / f"address-{name}").read_text() for name in ("web-a", "db-a"))
    assert "it's so" in (place / "address-web-a").read_text()
    assert bench.vmctl("drift", *staging, "--only", "site").out.split() == [
        "HOST", "VERDICT", "web-a", "in", "sync", "db-a", "in", "sync",
    ]  # fmt: skip
    (place / "db-a").write_text("somebody was here")
    drifted = bench.vmctl("drift", *staging, "--only", "site", "--json", status=1).answer["drift"]
    assert {name: row["verdict"] for name, row in drifted.items()} == {"web-a": "in sync", "db-a": "drifted"}
    assert (place / "db-a").read_text() == "somebody was here"
    out = bench.vmctl("exec", "--target", "staging", "*-a", "--", "ip", "-o", "-4", "address").out
    assert all(f"{name}: " in out and LINKS[name][2] in out for name in ("web-a", "db-a"))
    assert len(bench.vmctl("history", "--json").answer["runs"]) == 4


def test_without_the_jump_host_or_with_a_wrong_key_of_it_nobody_is_reached(
    bench: ProjectDirectory, tmp_path: Path, servers: NetnsServers
) -> None:
    bench.vmctl("provision", "--target", "direct", "--yes", "--only", "note", status=5)
    servers.write_known_hosts(jump="db-a")
    for only in ("site", "note"):
        ran = bench.vmctl("provision", "--target", "staging", "web-a", "--yes", "--only", only, "--json", status=5)
    assert "Host key verification failed" in ran.answer["details"]
    servers.write_known_hosts(web_a="db-a")
    ran = bench.vmctl("provision", "--target", "staging", "web-a", "--yes", "--only", "note", "--json", status=5)
    assert "IDENTIFICATION HAS CHANGED" in ran.answer["details"]
    assert list((tmp_path / "place").iterdir()) == []


def test_ctrl_c_leaves_nothing_behind_here_or_there(bench: ProjectDirectory, tmp_path: Path) -> None:
    begun = tmp_path / "place" / "begun"
    child = bench.start("provision", "--target", "staging", "web-a", "--yes", "--only", "sit")
    deadline = time.monotonic() + 60
    while not (begun.exists() and begun.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    script = int(begun.read_text())
    child.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130, out + err
    assert time.monotonic() - started < 15
    assert not _runs(script)
    assert [line for line in _commands() if "10.77.1.2" in line] == []
    assert bench.vmctl("history", "--json").answer["runs"][-1]["result"] == "interrupted"


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _commands() -> list[str]:
    """Command lines of ssh clients and Ansible."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if line.startswith(("/usr/bin/ssh ", "ssh ")) or "ansible-playbook" in line:
            found.append(line)
    return found
