"""Several real guests that need each other: order, names on their own network, one that fails; and `vmctl test`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ProjectDirectory, domains

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

BROKEN = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: Break on purpose
      ansible.builtin.raw: exit 3
"""

# web is ready only when it can fetch a page by name, over the private network, from what db's provisioning has started.
VMFILE = """\
box: debian-12
memory: 384MiB
cpus: 1
synced_folders: []
networks: [lan]
machines:
  web:
    depends_on: {db: provisioned}
    primary: true
    ready: [{http: "http://db.test-three-machines-that:8000/page", timeout: 3m}, {unit: ssh.service}]
  db:
    networks: [{name: lan, ip: 192.168.56.20}]
    provision:
      - name: serve
        shell:
          inline: |
            mkdir -p /srv/pages && echo "page of $(hostname)" > /srv/pages/page
            systemd-run --unit=pages python3 -m http.server 8000 --directory /srv/pages
  api:
    depends_on: {db: started}
    ready: [{port: 22}]
    provision: [{ansible: broken.yml}]
  spare: {autostart: false, networks: [{name: lan, ip: 192.168.56.99}]}
triggers:
  - {after: up, run: {inline: 'ssh -F "$VMCTL_SSH_CONFIG" "$VMCTL_MACHINE" hostname >> told'}}
  - {before: destroy, machines: api, on: guest, become: true, run: [touch, /root/not-while-this-is-there]}
  - {before: destroy, machines: api, on: guest, become: true, name: guard, run: ./guard.sh}
"""


@pytest.fixture
def guarded(project: ProjectDirectory) -> Iterator[ProjectDirectory]:
    """The project; at the end, no trigger keeps its machines from being removed."""
    yield project
    project.write("Vmfile", VMFILE.partition("triggers:")[0])


def test_three_machines_that_need_each_other(guarded: ProjectDirectory) -> None:
    project = guarded
    project.write("broken.yml", BROKEN)
    project.write("guard.sh", "#!/bin/bash\nid -un; hostname; [[ ! -e /root/not-while-this-is-there ]]\n")
    project.write("Vmfile", VMFILE)

    ran = project.vmctl("up", "--json", status=4)
    failed = ran.answer
    assert failed["outcome"] == {name: {"result": "done"} for name in ("web", "db", "api")}, failed
    assert failed["provisioned"]["machines"]["api"]["status"] == "failed"
    assert failed["provisioned"]["machines"]["db"]["status"] == "done"
    assert "Break on purpose" in failed["brief"]
    begun = [
        (row["machine"], row["step"])
        for row in ran.objects()
        if row.get("event") == "step-started" and row["step"] in ("start", "provision")
    ]
    assert begun.index(("", "provision")) < begun.index(("web", "start")), begun
    assert project.states() == {"web": "running", "db": "running", "api": "running", "spare": "not created"}

    assert sorted((project.root / "told").read_text().split()) == ["api", "db", "web"]

    # names, from every side; the primary machine is meant when none is named
    assert project.vmctl("ssh", "-c", "hostname").out == "web\n"
    assert project.ssh("curl -s http://db:8000/page", "web") == "page of db\n"
    for machine in ("db", "api"):
        project.ssh("ping -c 1 -W 20 web >/dev/null", machine)
    hosts = project.ssh("getent hosts db", "web").split()
    assert hosts[:2] == ["192.168.56.20", "db"]
    project.ssh("getent hosts spare", "web", status=2)

    # a trigger in the guest has the last word on its machine
    kept = project.vmctl("destroy", "api", "--yes", status=1)
    assert "trigger 'guard'" in kept.err
    assert "root" in kept.err
    assert project.states()["api"] == "running"
    project.write("Vmfile", VMFILE.replace("run: [touch, ", "run: [echo, "))
    project.ssh("sudo rm /root/not-while-this-is-there", "api")

    # names go with their machine, and stay over a restart of another one
    project.vmctl("destroy", "api", "--yes")
    project.ssh("getent hosts api", "web", status=2)
    project.ssh("getent hosts db", "web")


PROJECT_PLAYBOOK = """\
- hosts: all
  become: true
  gather_facts: false
  tasks:
    - name: Install a page
      ansible.builtin.copy: {content: "hello\\n", dest: /srv/page, mode: "0644"}
    - name: Count runs
      ansible.builtin.shell: echo run >> /var/log/runs
      args: {creates: /var/log/runs}
"""
VERIFY = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: The page is there
      ansible.builtin.command: grep hello /srv/page
      changed_when: false
"""
PAGE = """\
#!/bin/sh
set -eu
test -s /srv/page
echo seen by $(id -un)
ip -4 -br addr | grep 192.168.56.20/24
! ping -c 1 -W 3 192.168.56.1  # the host is on the network of the user's machine, not on this one
"""
TESTS = """\
def test_it_was_restarted_once_and_provisioned_once(machines):
    machine = machines["default"]
    assert machine.run("cat /var/log/runs").stdout == "run\\n"
    assert machine.run("systemctl is-system-running --wait").stdout.strip() in ("running", "degraded")
    assert machine.run("cat /srv/boots").stdout == "boot\\n" * 2


def test_what_testinfra_sees(host):
    assert host.file("/srv/page").content_string == "hello\\n"
    assert host.service("ssh").is_running
    with host.sudo():
        assert host.user().name == "root"
"""


def test_a_project_is_tested_on_machines_of_its_own(project: ProjectDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    own_pytest = str(Path(sys.executable).parent)  # with testinfra; whoever runs the tests may have another one
    monkeypatch.setenv("PATH", os.pathsep.join([own_pytest, os.environ["PATH"]]))
    project.write("site.yml", PROJECT_PLAYBOOK)
    project.write("verify.yml", VERIFY)
    project.write("test_page.py", TESTS)
    project.write("page.sh", PAGE)
    project.write(
        "Vmfile",
        """\
box: debian-12
memory: 384MiB
synced_folders: []
ports: ["18080:80"]
networks: [{name: lan, ip: 192.168.56.20}]
ready: [{command: 'echo boot | sudo tee -a /srv/boots'}]
provision: [{ansible: site.yml}]
test: {verify: [verify.yml, page.sh, test_page.py]}
""",
    )
    project.vmctl("up", "--no-provision")  # has the same port and addresses, and never notices
    ran = project.vmctl("test", "--json", "--junit", "result.xml").answer
    (suite,) = ran["suites"]
    phases = {phase["name"]: phase["result"] for phase in suite["phases"]}
    assert phases == dict.fromkeys(
        ["up", "idempotence", "reboot", "verify verify", "verify page", "verify test_page", "destroy"], "passed"
    )
    report = (project.root / "result.xml").read_text()
    assert 'tests="7" failures="0"' in report
    assert "default: seen by vmctl" in report
    assert len([name for name in domains() if "project-is" in name]) == 1
    assert project.ssh("cat /srv/boots; ip -4 -br addr | grep -c 192.168.56.20/24; sudo ls /srv") == "boot\n1\nboots\n"
    assert not [entry for entry in (project.root / ".vmctl" / "test").iterdir() if entry.is_dir()]
