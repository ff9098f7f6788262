from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vmctl.driver import Address
from vmctl.errors import UsageError
from vmctl.layout import ProjectLayout
from vmctl.login import Login
from vmctl.provision import inventory_groups, machine_inventory
from vmctl.provision.inventory_groups import Group
from vmctl.spec import Ansible, BoxRef, MachineSpec, Project, SourceLocation


def project(root: Path, *items: Ansible) -> Project:
    named = [("web-1", "web"), ("web-2", "web"), ("db", "db")]
    machines = tuple(
        MachineSpec(name=name, group=group, box=BoxRef(address="b"), provision=items) for name, group in named
    )
    return Project(root=root, file=root / "Vmfile", machines=machines)


def site(name: str = "site", **members: tuple[str, ...]) -> Ansible:
    return Ansible(
        name=name, playbook=Path("site.yml"), groups=members, place=SourceLocation(file="Vmfile", line=3, column=5)
    )


@pytest.mark.parametrize(
    ("members", "group"),
    [
        (("web-1",), Group(("web-1",))),
        (("web",), Group(("web-1", "web-2"))),
        (("*-1", "db"), Group(("web-1", "db"))),
        (("web", "web-1", "web-*"), Group(("web-1", "web-2"))),
        (("other",), Group((), ("other",))),
        (("db", "other"), Group(("db",), ("other",))),
        ((), Group()),
    ],
)
def test_members_are_names_counted_keys_groups_and_patterns(
    tmp_path: Path, members: tuple[str, ...], group: Group
) -> None:
    assert inventory_groups.resolve(project(tmp_path), site(g=members, other=("db",)))["g"] == group


def test_a_counted_key_is_a_group_by_itself_and_a_single_machine_is_not(tmp_path: Path) -> None:
    assert inventory_groups.resolve(project(tmp_path), site()) == {"web": Group(("web-1", "web-2"))}


def test_a_member_that_means_nothing_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        inventory_groups.resolve(project(tmp_path), site(g=("web-3",)))
    assert caught.value.brief == (
        "Vmfile:3:5: provisioner 'site': group 'g': no machine or group matches 'web-3', did you mean 'web-2'?"
    )


def test_groups_in_a_circle_are_refused_with_their_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="groups contain each other: a → b → c → a"):
        inventory_groups.resolve(project(tmp_path), site(a=("b",), b=("c",), c=("a",)))


def test_the_groups_of_all_provisioners_come_together(tmp_path: Path) -> None:
    known = project(tmp_path, site(g=("db",)), site("again", g=("web",), h=("g",)))
    assert inventory_groups.all_of(known) == {
        "web": Group(("web-1", "web-2")), "g": Group(("db", "web-1", "web-2")), "h": Group((), ("g",)),
    }  # fmt: skip


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
    path = machine_inventory.write(project(tmp_path, site(g=("*",))), [login(tmp_path, "web-1")], layout)
    told = yaml.safe_load(path.read_text())["all"]
    assert list(told["hosts"]) == ["web-1", "db"]
    assert told["hosts"]["db"] == {"ansible_ssh_common_args": f"-F {halted}"}
    assert told["children"]["g"] == {"hosts": {"web-1": {}, "db": {}}, "children": {}}
    assert told["vars"] == {"vmctl_project": tmp_path.name}
    assert path.stat().st_mode & 0o777 == 0o600


def test_host_keys_are_checked_strictly_and_the_users_ssh_config_stays_out(tmp_path: Path) -> None:
    known = login(tmp_path, "web-1")
    told = machine_inventory.hosts(project(tmp_path), [known], ProjectLayout(tmp_path / "state", tmp_path / ".vmctl"))[
        "web-1"
    ]
    assert (told["ansible_host"], told["ansible_port"], told["ansible_user"]) == ("127.0.0.1", 2222, "me")
    words = told["ansible_ssh_common_args"]
    assert words.startswith(f"-F {known.config} ")
    for option in ("HostKeyAlias=web-1", f"UserKnownHostsFile={known.known_hosts}", "StrictHostKeyChecking=yes"):
        assert f"-o {option}" in words


def test_text_that_looks_like_a_template_is_marked(tmp_path: Path) -> None:
    text = machine_inventory.render(project(tmp_path), {"a": {"x": "{{ y }}", "z": "yes"}}, {})
    assert "x: !unsafe '{{ y }}'" in text
    assert "z: 'yes'" in text
