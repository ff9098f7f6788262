"""Several real guests that need each other: order, names on their own network, one that fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import ProjectDirectory

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


@pytest.fixture(scope="class")
def guarded(container_day: ProjectDirectory) -> Iterator[ProjectDirectory]:
    """The project; at the end, no trigger keeps its machines from being removed."""
    container_day.write("broken.yml", BROKEN)
    container_day.write("guard.sh", "#!/bin/bash\nid -un; hostname; [[ ! -e /root/not-while-this-is-there ]]\n")
    container_day.write("Vmfile", VMFILE)
    yield container_day
    container_day.write("Vmfile", VMFILE.partition("triggers:")[0])


class TestThreeMachinesThatNeedEachOther:
    """One `up` that fails in part, and what holds of its machines then."""

    @pytest.fixture
    def project(self, guarded: ProjectDirectory) -> ProjectDirectory:
        return guarded

    def test_up_keeps_their_order_and_tells_which_one_failed(self, project: ProjectDirectory) -> None:
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

    def test_a_trigger_ran_for_each(self, project: ProjectDirectory) -> None:
        assert sorted((project.root / "told").read_text().split()) == ["api", "db", "web"]

    def test_the_primary_machine_is_meant_when_none_is_named(self, project: ProjectDirectory) -> None:
        assert project.vmctl("ssh", "-c", "hostname").out == "web\n"

    def test_they_know_each_other_by_name_from_every_side(self, project: ProjectDirectory) -> None:
        page, hosts = project.ssh("curl -s http://db:8000/page; getent hosts db", "web").splitlines()
        assert page == "page of db"
        assert hosts.split()[:2] == ["192.168.56.20", "db"]
        for machine in ("db", "api"):
            project.ssh("ping -c 1 -W 20 web >/dev/null", machine)
        project.ssh("getent hosts spare", "web", status=2)

    def test_a_trigger_in_the_guest_has_the_last_word_on_its_machine(self, project: ProjectDirectory) -> None:
        kept = project.vmctl("destroy", "api", "--yes", status=1)
        assert "trigger 'guard'" in kept.err
        assert "root" in kept.err
        assert project.states()["api"] == "running"

    def test_names_go_with_their_machine_and_the_others_stay(self, project: ProjectDirectory) -> None:
        project.write("Vmfile", VMFILE.replace("run: [touch, ", "run: [echo, "))
        project.ssh("sudo rm /root/not-while-this-is-there", "api")
        project.vmctl("destroy", "api", "--yes")
        project.ssh("getent hosts api", "web", status=2)
        project.ssh("getent hosts db", "web")
