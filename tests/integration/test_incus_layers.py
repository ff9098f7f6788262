"""Layers of containers on a real LXD whose pool clones disks; the whole contract runs on one that copies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.contract.contract_parts import make_definition
from tests.contract.test_contract_incus import free_port
from tests.host import small_image
from tests.host.lxd import FOLDER_OWNER, Lxd
from tests.integration.conftest import ProjectDirectory
from vmctl.driver import Definition, Disk, Host
from vmctl.flock import held
from vmctl.testing import LayerContract
from vmctl.testing.contract_layers import FIRST
from vmctl_incus import IncusDriver
from vmctl_incus.identity import BOX, UNFINISHED
from vmctl_incus.layers import MADE_OF, NAME

pytestmark = pytest.mark.integration

VMFILE = """\
box: debian-12
memory: 256MiB
provision:
  - {name: one, shell: {inline: "date +%s.%N >/var/lib/made; dd if=/dev/urandom of=/var/lib/big bs=1M count=40"}}
  - {name: site, ansible: {playbook: site.yml, become: true}}
  - {name: last, shell: {inline: "echo LAST >>/var/lib/made"}}
"""
SITE = """\
- hosts: all
  tasks:
    - ansible.builtin.copy: {dest: /etc/greeting, content: "hello {{ inventory_hostname }}"}
"""
WHO = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub ~/.ssh/authorized_keys; id -u; hostname"
TWO = """\
machines: {web: {box: debian-12, count: 2, memory: 256MiB}}
synced_folders: []
provision: [{name: one, shell: {inline: "date +%s.%N >/var/lib/made"}}]
"""
ALL = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub ~/.ssh/authorized_keys /sys/class/net/eth0/address"
MEBIBYTE = 1024**2


@pytest.fixture(scope="class")
def before() -> dict[str, Any]:
    """What the first machine was, for the tests after it."""
    return {}


class TestLayersDay:
    """One day of one project; each test goes on where the one before ended."""

    def test_each_provisioner_leaves_a_layer(self, container_day: ProjectDirectory, before: dict[str, Any]) -> None:
        container_day.with_layers()
        container_day.write("Vmfile", VMFILE.replace("LAST", "last"))
        container_day.write("site.yml", SITE)
        ran = container_day.vmctl("up", "--json")
        freezes = [row for row in ran.objects() if row.get("event") == "step-done" and row.get("step") == "freeze"]
        print("freezing", [row["seconds"] for row in freezes])  # noqa: T201
        before["made"], before["who"] = container_day.ssh("cat /var/lib/made"), container_day.ssh(WHO).split("\n")
        kept = container_day.vmctl("cache", "list", "--json").answer
        before["box"], layers = _digest(container_day), kept["layers"]
        (box,) = (one for one in kept["boxes"] if one["key"] == before["box"])
        assert box["in_use"]
        assert box["bytes"] > 100 * MEBIBYTE
        sizes = {tuple(layer["provisioners"]): layer["bytes"] for layer in layers}
        assert sizes.keys() == {("one",), ("one", "site"), ("one", "site", "last")}
        assert sizes["one",] > 40 * MEBIBYTE, "what the first has written"
        assert max(sizes["one", "site"], sizes["one", "site", "last"]) < 20 * MEBIBYTE
        assert container_day.states() == {"default": "running"}
        assert len(container_day.vmctl("list", "--json").answer["machines"]) == 1

    def test_destroy_and_up_runs_nothing(self, container_day: ProjectDirectory, before: dict[str, Any]) -> None:
        container_day.vmctl("destroy", "--yes")
        ran = container_day.vmctl("up", "--json")
        texts = [row.get("text") for row in ran.objects() if row.get("event") == "step-started"]
        assert "creating from layer 3 of 3 on debian-12" in texts
        assert not ran.answer["provisioned"].get("machines", {}).get("default", {}).get("ran")
        assert container_day.ssh("cat /var/lib/made; cat /etc/greeting") == before["made"] + "hello default"
        assert container_day.ssh("cat /project/site.yml") == SITE, "its folder is live"
        assert container_day.ssh("sudo systemctl is-system-running || systemctl --failed --no-legend") == "running\n"

    def test_it_is_a_machine_of_its_own(self, container_day: ProjectDirectory, before: dict[str, Any]) -> None:
        now = container_day.ssh(WHO).split("\n")
        assert len(now) == len(before["who"])
        assert [line for line in now if line in before["who"]] == [str(FOLDER_OWNER), "default", ""]

    def test_only_what_changed_runs(self, container_day: ProjectDirectory, before: dict[str, Any]) -> None:
        container_day.write("Vmfile", VMFILE.replace("LAST", "changed"))
        container_day.vmctl("destroy", "--yes")
        ran = container_day.vmctl("up", "--json")
        assert ran.answer["provisioned"]["machines"]["default"]["ran"] == ["last"]
        assert container_day.ssh("cat /var/lib/made").split() == [before["made"].split()[0], "changed"]

    def test_a_layer_is_an_instance_that_holds_nothing_of_its_machine(
        self, container_day: ProjectDirectory, lxd_server: Lxd
    ) -> None:
        found = [each for each in _instances(lxd_server) if each["name"].startswith(NAME.format(""))]
        assert len(found) == 4
        for each in found:
            assert list(each["devices"]) == ["root"]
            own = {key for key in each["config"] if key.startswith("user.")}
            assert {re.sub(r"\..*", "", key.removeprefix("user.vmctl.")) for key in own} <= {
                "layer",
                "ground",
                "unshifted",
            }

    def test_what_is_in_use_stays_and_the_rest_goes(
        self, container_day: ProjectDirectory, lxd_server: Lxd, before: dict[str, Any]
    ) -> None:
        def pruned() -> set[str]:
            layers = {one["key"] for one in container_day.vmctl("cache", "list", "--json").answer["layers"]}
            removed = set(container_day.vmctl("cache", "prune", "--all", "--json").answer["removed"])
            return removed & {*layers, before["box"]}

        first = pruned()
        assert len(first) == 1
        assert before["box"] not in first
        container_day.vmctl("destroy", "--yes")
        second = pruned()
        assert len(second) == 4
        assert before["box"] in second
        assert _instances(lxd_server) == []
        assert before["box"] not in lxd_server.client("query", "/1.0/images?recursion=1")

    def test_two_machines_of_one_layer_share_no_identity(self, container_day: ProjectDirectory) -> None:
        container_day.write("Vmfile", TWO)
        container_day.vmctl("up")
        container_day.vmctl("destroy", "--yes")
        rows = container_day.vmctl("up", "--json").objects()
        assert [row["text"] for row in rows if (row.get("event"), row.get("step")) == ("step-started", "create")] == [
            "creating from layer 1 of 1 on debian-12",
            "creating from layer 1 of 1 on debian-12",
        ]
        first, second = (
            container_day.ssh(f"cat /var/lib/made; {ALL}", name).splitlines() for name in ("web-1", "web-2")
        )
        assert len(first) == len(second) == 5
        assert [one == other for one, other in zip(first, second, strict=True)] == [True, *[False] * 4]


class TestOnAPoolThatClones(LayerContract):
    @pytest.fixture
    def driver(self, lxd_server: Lxd, tmp_path: Path) -> IncusDriver:
        return IncusDriver(Host(home=tmp_path / "home", options={"url": f"unix://{lxd_server.socket}"}))

    @pytest.fixture
    def definition(self, tmp_path: Path) -> Definition:
        return make_definition(tmp_path, port=free_port())

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Disk:
        return small_image.make(tmp_path)

    def test_what_a_killed_vmctl_left_is_no_layer_and_goes(
        self, driver: IncusDriver, definition: Definition, disk: Disk, lxd_server: Lxd
    ) -> None:
        name, tag = definition.name, definition.tag
        driver.create(definition, disk)
        for key in (FIRST, "d" * 64):
            lxd_server.client("init", NAME.format(key[:40]), "--empty", "--config", f"{MADE_OF}={name}")
        assert driver.layers() == ()
        assert driver.freeze(name, tag, FIRST)
        assert [layer.key for layer in driver.layers()] == [FIRST]
        assert len(lxd_server.instances()) == 2, "the other one went along"
        lxd_server.client("init", "theirs", "--empty")
        driver.destroy(name, tag)
        assert driver.remove_layer(FIRST)
        assert lxd_server.instances() == ["theirs"], "what vmctl did not make stays"
        lxd_server.client("delete", "theirs")

    def test_a_machine_begins_with_a_ground_whose_files_have_its_owners(
        self, driver: IncusDriver, definition: Definition, disk: Disk, lxd_server: Lxd
    ) -> None:
        name, tag = definition.name, definition.tag
        driver.create(definition, disk)
        (ground,) = (one for one in _instances(lxd_server) if one["config"].get(BOX) == disk.digest)
        lxd_server.client("delete", ground["name"])
        driver.destroy(name, tag)
        lxd_server.client("init", ground["name"], "--empty", "--config", f"{UNFINISHED}={disk.digest}")
        driver.create(definition, disk)  # what a vmctl that was killed left of one is none
        found = {one["name"]: one for one in _instances(lxd_server)}
        machine = found[name]
        assert machine["config"]["volatile.last_state.idmap"] == machine["config"]["volatile.idmap.next"]
        assert set(found[ground["name"]]["devices"]) == {"root"}
        (copy,) = (each for each in driver.box_copies() if each.key == disk.digest)
        assert copy.needed
        assert copy.size == disk.path.stat().st_size
        assert not driver.remove_box_copy(disk.digest)
        driver.start(name, tag)
        driver.destroy(name, tag)
        assert driver.remove_box_copy(disk.digest)
        assert all(each.key != disk.digest for each in driver.box_copies())
        assert ground["name"] not in [one["name"] for one in _instances(lxd_server)]

    def test_a_half_made_ground_is_removed_with_its_box_unless_it_is_being_made(
        self, driver: IncusDriver, definition: Definition, disk: Disk, lxd_server: Lxd, tmp_path: Path
    ) -> None:
        driver.create(definition, disk)
        (ground,) = (one["name"] for one in _instances(lxd_server) if one["config"].get(BOX) == disk.digest)
        driver.destroy(definition.name, definition.tag)
        lxd_server.client("delete", ground)
        lxd_server.client("init", disk.digest, ground, "--config", f"{UNFINISHED}={disk.digest}")
        with held(tmp_path / "home" / "locks" / f"incus-ground-{disk.digest[:32]}"):
            assert not driver.remove_box_copy(disk.digest)
        (copy,) = (each for each in driver.box_copies() if each.key == disk.digest)
        assert not copy.needed
        assert driver.remove_box_copy(disk.digest)
        assert ground not in [one["name"] for one in _instances(lxd_server)]
        assert all(each.key != disk.digest for each in driver.box_copies())


def _instances(server: Lxd) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(server.client("query", "/1.0/instances?recursion=1"))
    return found


def _digest(project: ProjectDirectory) -> str:
    """Of the box's root file system."""
    place = Path(project.environment["VMCTL_HOME"], "boxes", "debian-12")
    (found,) = place.glob("*/*/*.container")
    return found.stem
