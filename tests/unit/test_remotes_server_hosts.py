"""What of the Vmfile applies to which server: pure, on servers that nobody has to reach."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.vmfile_cases import fill, load
from vmctl.errors import UsageError
from vmctl.provision.inventory_groups import Group
from vmctl.remotes import hosts, server_inventory
from vmctl.remotes.server_hosts import ServerHosts
from vmctl.spec import Ansible, Project

VMFILE = """\
box: debian-12
machines:
  web:
    count: 2
    provision: [{shell: {inline: own}, name: own}]
  db: {}
provision:
  - {shell: {inline: first}, name: first}
  - {shell: {inline: here}, name: here, remotes: false}
  - {shell: {inline: live}, name: live, remotes: [live]}
  - {name: site, ansible: {playbook: site.yml, groups: {webservers: [web], dbservers: [db], loners: [web-2]}}}
remotes:
  staging:
    hosts:
      web-1:
      front: {groups: [web]}
      db-a: {address: 10.0.0.7, groups: [dbservers]}
      lone: {vars: {x: 1}}
    vars: {y: 2}
  live: {hosts: {a: }}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return load(fill(tmp_path), VMFILE)


def host_set(project: Project, target: str = "staging") -> ServerHosts:
    return ServerHosts(project, server_inventory.load(project, server_inventory.find(project, target)))


def names(servers: ServerHosts) -> dict[str, list[str]]:
    targets = servers.targets(tuple(servers.server_inventory.hosts.values()))
    return {target.name: [item.name for item in target.provision] for target in targets}


def test_servers_get_the_top_level_and_what_they_stand_for(project: Project) -> None:
    assert names(host_set(project)) == {
        "web-1": ["first", "site", "own"], "front": ["first", "site", "own"],
        "db-a": ["first", "site"], "lone": ["first", "site"],
    }  # fmt: skip
    assert names(host_set(project, "live")) == {"a": ["first", "live", "site"]}


def test_groups_of_a_provisioner_hold_who_stands_for_their_machines(project: Project) -> None:
    servers = host_set(project)
    (item,) = (one for one in servers.provisioners if isinstance(one, Ansible))
    found = servers.groups(item)
    assert found["webservers"] == Group(("web-1", "front"))
    assert found["dbservers"] == Group(("db-a",))  # the target's own group alone counts
    assert found["loners"] == Group(("front",))
    answer = yaml.safe_load(servers.inventory(item))["all"]
    assert answer["vars"] == {"vmctl_project": project.name, "y": 2, "vmctl_target": "staging"}
    assert answer["hosts"]["lone"]["x"] == 1
    assert answer["hosts"]["db-a"]["ansible_host"] == "10.0.0.7"
    assert "ansible_host" not in answer["hosts"]["web-1"]


def test_hints_lead_to_the_target(project: Project) -> None:
    servers = host_set(project)
    assert servers.again(["a", "b"]) == "vmctl provision --target staging a b"
    assert servers.enter("a") == "vmctl ssh --target staging a"


def test_an_unknown_target_is_refused_with_the_known_ones(project: Project) -> None:
    with pytest.raises(UsageError, match="there is no target 'stagin', did you mean 'staging'") as caught:
        server_inventory.find(project, "stagin")
    assert caught.value.hint == "targets of this project: staging, live"


@pytest.mark.parametrize(
    ("patterns", "meant"),
    [
        ([], ["web-1", "front", "db-a", "lone"]),
        (["web"], ["front"]),
        (["db-a", "web-1"], ["web-1", "db-a"]),
        (["web-*,lone"], ["web-1", "lone"]),
        (["!web"], ["web-1", "db-a", "lone"]),
        (["*,&dbservers"], ["db-a"]),
        (["all", "!*-*"], ["front", "lone"]),
    ],
)
def test_patterns(project: Project, patterns: list[str], meant: list[str]) -> None:
    assert [host.name for host in hosts.select(host_set(project).server_inventory, patterns)] == meant


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["fromt"], "no server or group of staging matches 'fromt', did you mean 'front'?"),
        (["web,&dbservers"], "'web,&dbservers' leaves no server of staging"),
        (["-oProxyCommand=x"], "no server or group of staging matches '-oProxyCommand=x'"),
    ],
)
def test_patterns_that_mean_nothing_are_refused(project: Project, patterns: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        hosts.select(host_set(project).server_inventory, patterns)
    assert caught.value.brief == message
    assert "servers of staging: web-1, front, db-a, lone; groups: web, dbservers" in caught.value.hint
