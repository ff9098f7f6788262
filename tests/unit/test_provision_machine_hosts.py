from __future__ import annotations

from pathlib import Path

import yaml

from tests.unit.test_provision_inventory_groups import project, site
from vmctl.driver import Address
from vmctl.layout import ProjectLayout
from vmctl.login import Login
from vmctl.provision import machine_hosts


def login(root: Path, name: str) -> Login:
    layout = ProjectLayout(root / "state", root / ".vmctl").machine(name)
    return Login(
        machine=name, address=Address(host="127.0.0.1", port=2222), user="me",
        key=layout.key, known_hosts=layout.known_hosts, config=layout.ssh_config,
    )  # fmt: skip


def test_machines_that_exist_are_listed_whether_they_run_or_not(tmp_path: Path) -> None:
    layout = ProjectLayout(tmp_path / "state", tmp_path / ".vmctl")
    halted = layout.machine("db").ssh_config
    halted.parent.mkdir(parents=True)
    halted.touch()
    path = machine_hosts.write(project(tmp_path, site(g=("*",))), [login(tmp_path, "web-1")], layout)
    answer = yaml.safe_load(path.read_text())["all"]
    assert list(answer["hosts"]) == ["web-1", "db"]
    assert answer["hosts"]["db"] == {"ansible_ssh_common_args": f"-F {halted}"}
    assert answer["children"]["g"] == {"hosts": {"web-1": {}, "db": {}}, "children": {}}
    assert answer["vars"] == {"vmctl_project": tmp_path.name}
    assert path.stat().st_mode & 0o777 == 0o600


def test_host_keys_are_checked_strictly_and_the_users_ssh_config_stays_out(tmp_path: Path) -> None:
    known = login(tmp_path, "web-1")
    layout = ProjectLayout(tmp_path / "state", tmp_path / ".vmctl")
    answer = machine_hosts.hosts(project(tmp_path), [known], layout)["web-1"]
    assert (answer["ansible_host"], answer["ansible_port"], answer["ansible_user"]) == ("127.0.0.1", 2222, "me")
    words = answer["ansible_ssh_common_args"]
    assert words.startswith(f"-F {known.config} ")
    for option in ("HostKeyAlias=web-1", f"UserKnownHostsFile={known.known_hosts}", "StrictHostKeyChecking=yes"):
        assert f"-o {option}" in words
