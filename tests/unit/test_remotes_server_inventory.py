"""How ssh gets to the servers that the Vmfile has."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from vmctl.remotes import server_inventory
from vmctl.spec import Remote, Server


def test_ssh_is_told_everything_and_is_strict_on_the_way() -> None:
    hosts = (
        Server(name="web", address="10.0.0.5", port=2222, user="deploy", key=Path("/k/a b%"), jump="inner"),
        Server(name="inner", address="10.0.0.1", jump="ops@outer:2200"),
    )
    known = server_inventory.inline(Remote(name="staging", servers=hosts, known_hosts=Path("/p/known")))
    destination = known.hosts["web"].destination
    assert destination is not None
    argv = destination.argv({"StrictHostKeyChecking": "yes"})
    assert argv[1:3] == ["-o", "StrictHostKeyChecking=yes"]
    assert argv[-2:] == ["--", "10.0.0.5"]
    options = argv[4:-2:2]
    assert options[:4] == ["Port=2222", "User=deploy", 'IdentityFile="/k/a b%%"', "IdentitiesOnly=yes"]
    through = shlex.split(options[-1].removeprefix("ProxyCommand="))
    assert through[:3] == ["ssh", "-o", "StrictHostKeyChecking=yes"]
    assert through[-4:] == ["-W", "[%h]:%p", "--", "10.0.0.1"]
    inner = shlex.split(
        next(word for word in through if word.startswith("ProxyCommand=")).removeprefix("ProxyCommand=")
    )
    assert inner[-4:] == ["-W", "[%%h]:%%p", "--", "outer"]
    assert {"Port=2200", "User=ops"} <= set(inner)
    variables = known.hosts["web"].variables
    assert shlex.split(variables["ansible_ssh_common_args"])[:2] == ["-o", "StrictHostKeyChecking=yes"]
    assert (variables["ansible_port"], variables["ansible_user"]) == (2222, "deploy")


@pytest.mark.parametrize(
    ("jump", "meant"),
    [
        ("bastion", ("", "bastion", None)),
        ("ops@bastion", ("ops", "bastion", None)),
        ("ops@bastion:22", ("ops", "bastion", 22)),
        ("[fd00::1]:22", ("", "fd00::1", 22)),
        ("ops@[fd00::1]", ("ops", "fd00::1", None)),
    ],
)
def test_jump_hosts(jump: str, meant: tuple[str, str, int | None]) -> None:
    hop = server_inventory._jump_host(jump)
    assert (hop.user, hop.name, hop.port) == meant
