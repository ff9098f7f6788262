"""Layers on a real guest: made while it is provisioned, and the ground of another machine that runs only the rest."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.integration.conftest import ProjectDirectory, volumes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

VMFILE = """\
box: debian-12
cpus: 1
provision:
  - {name: one, shell: {inline: "date +%s.%N | sed 's/^/one /' >> /var/lib/log"}}
  - {name: site, ansible: {playbook: site.yml, become: true}}
  - {name: last, shell: {inline: "echo LAST >> /var/lib/log; systemctl is-system-running || true"}}
"""
SITE = """\
- hosts: all
  tasks:
    - ansible.builtin.template: {src: greeting.j2, dest: /etc/greeting, mode: "0644"}
    - ansible.builtin.lineinfile: {path: /var/lib/log, line: site}
"""
WHO = (
    "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub ~/.ssh/authorized_keys; "
    "sudo sha256sum /var/lib/systemd/random-seed; cat /sys/class/net/eth0/address"
)


def known(day: ProjectDirectory) -> tuple[set[str], set[str]]:
    """Keys of the layers, and of the copies of boxes, that the hypervisor has."""
    answer = day.vmctl("cache", "list", "--json").answer
    layers, boxes = ({one["key"] for one in answer[kind]} for kind in ("layers", "boxes"))
    return layers, boxes


@pytest.fixture(scope="class")
def before() -> dict[str, Any]:
    """What the first machine was, for the tests after it."""
    return {}


class TestLayersDay:
    """One day of one project; each test goes on where the one before ended."""

    def test_each_provisioner_leaves_a_layer(self, day: ProjectDirectory, before: dict[str, Any]) -> None:
        day.with_layers()
        day.write("Vmfile", VMFILE.replace("LAST", "last"))
        day.write("site.yml", SITE)
        day.write("templates/greeting.j2", "hello {{ inventory_hostname }}\n")
        started = time.monotonic()
        ran = day.vmctl("up", "--json", timeout=1200)
        before["seconds"] = time.monotonic() - started
        freezes = [row for row in ran.objects() if row.get("event") == "step-done" and row.get("step") == "freeze"]
        print("up", before["seconds"], "freezing", [row["seconds"] for row in freezes])  # noqa: T201
        assert len(freezes) == 3
        before["log"] = day.ssh("cat /var/lib/log").splitlines()
        assert [line.split()[0] for line in before["log"]] == ["one", "site", "last"]
        before["who"] = day.ssh(WHO).splitlines()
        layers = day.vmctl("cache", "list", "--json").answer["layers"]
        assert sorted(layer["provisioners"] for layer in layers) == [
            ["one"], ["one", "site"], ["one", "site", "last"],
        ]  # fmt: skip
        assert day.vmctl("up").out.startswith("default is up; nothing to do")

    def test_the_next_machine_runs_only_what_changed(self, day: ProjectDirectory, before: dict[str, Any]) -> None:
        day.vmctl("destroy", "--yes")
        day.write("Vmfile", VMFILE.replace("LAST", "changed"))
        plan = day.vmctl("plan").out
        assert "  from layer 2 of 3: " in plan
        assert "  provision: last\n" in plan
        started = time.monotonic()
        ran = day.vmctl("up", "--json", timeout=1200)
        print("up from a layer", time.monotonic() - started, "instead of", before["seconds"])  # noqa: T201
        texts = [row.get("text") for row in ran.objects() if row.get("event") == "step-started"]
        assert "creating from layer 2 of 3 on debian-12" in texts
        assert ran.answer["provisioned"]["machines"]["default"]["ran"] == ["last"]
        assert day.ssh("cat /var/lib/log").splitlines() == [*before["log"][:2], "changed"]
        assert day.ssh("cat /etc/greeting").strip() == "hello default"
        assert day.ssh("cat /project/site.yml").strip() == SITE.strip(), "its folder is live"

    def test_it_is_a_machine_of_its_own(self, day: ProjectDirectory, before: dict[str, Any]) -> None:
        now = day.ssh(WHO).splitlines()
        same = [line for line in now if line in before["who"]]
        assert len(now) == len(before["who"])
        assert same in ([], [before["who"][-1]]), "only the MAC address may be that of before"
        assert day.ssh("hostname").strip() == "default"

    def test_what_is_in_use_stays_and_the_rest_goes(self, day: ProjectDirectory) -> None:
        layers, boxes = known(day)
        day.vmctl("cache", "prune", "--all")
        left, copies = known(day)
        assert len(layers) == 4
        assert len(left) == 3, "the third layer of the first machine went"
        assert left <= layers
        assert len(copies & boxes) == 1, "its own box; other tests may have left copies of theirs"
        day.vmctl("destroy", "--yes")
        removed = day.vmctl("cache", "prune", "--all", "--json").answer["removed"]
        assert set(removed) == left | copies
        assert day.vmctl("cache", "list", "--json").answer == {"layers": [], "boxes": []}
        assert volumes() == []
