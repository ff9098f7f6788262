from __future__ import annotations

from pathlib import Path

import pytest

from vmctl.errors import UsageError
from vmctl.provision import inventory_groups
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
