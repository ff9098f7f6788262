import shutil
import socket
import threading
from pathlib import Path

import pytest
from msgspec import structs

from vmctl.errors import VmctlError
from vmctl.layout import HomeLayout
from vmctl.spec import Port
from vmctl.store import host_ports, project_identity
from vmctl.store.host_ports import PortTaken
from vmctl.store.port_leases import AUTO_RANGE, SSH_RANGE, Owner, Ports


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path / "data")


def owner(home: HomeLayout, root: Path, machine: str = "web") -> Owner:
    root.mkdir(exist_ok=True)
    project = project_identity.ensure(root, home).id
    return Owner(project=project, root=str(root), machine=machine)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_ssh_comes_first_and_stays(home: HomeLayout, tmp_path: Path) -> None:
    web = owner(home, tmp_path / "a")
    (ssh,) = Ports(home).lease(web, [], ssh=22, running=False)
    assert (ssh.name, ssh.guest, ssh.host_ip, ssh.protocol) == ("ssh", 22, "127.0.0.1", "tcp")
    assert ssh.host in SSH_RANGE
    assert Ports(home).lease(web, [], ssh=22, running=False) == (ssh,)


def test_machines_of_all_projects_get_different_ports(home: HomeLayout, tmp_path: Path) -> None:
    got = [
        Ports(home).lease(owner(home, tmp_path / project, machine), [Port(guest=80, host=None)], ssh=22, running=False)
        for project in ("a", "b")
        for machine in ("web", "db")
    ]
    numbers = [forward.host for forwards in got for forward in forwards]
    assert len(set(numbers)) == 8
    assert all(forwards[1].host in AUTO_RANGE for forwards in got)


def test_a_collision_with_another_machine_names_it(home: HomeLayout, tmp_path: Path) -> None:
    number = free_port()
    wanted = [Port(guest=80, host=number)]
    Ports(home).lease(owner(home, tmp_path / "a"), wanted, ssh=None, running=False)
    before = home.ports.read_bytes()
    with pytest.raises(PortTaken) as caught:
        Ports(home).lease(owner(home, tmp_path / "b"), wanted, ssh=None, running=False)
    assert f"127.0.0.1:{number}/tcp belongs to machine web of {tmp_path / 'a'}" in caught.value.details
    assert home.ports.read_bytes() == before


def test_a_collision_with_a_program_names_it_and_all_are_told(home: HomeLayout, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        numbers = [one.getsockname()[1], two.getsockname()[1]]
        wanted = [Port(guest=80 + n, host=number) for n, number in enumerate(numbers)]
        with pytest.raises(PortTaken) as caught:
            Ports(home).lease(owner(home, tmp_path / "a"), wanted, ssh=22, running=False)
    for number in numbers:
        assert f"127.0.0.1:{number}/tcp is in use by " in caught.value.details
    assert "(process " in caught.value.details


def test_wildcard_and_loopback_collide_but_protocols_do_not(home: HomeLayout, tmp_path: Path) -> None:
    number = free_port()
    Ports(home).lease(owner(home, tmp_path / "a"), [Port(guest=80, host=number)], ssh=None, running=False)
    wildcard = Port(guest=80, host=number, host_ip="0.0.0.0")  # noqa: S104  never bound
    with pytest.raises(PortTaken):
        Ports(home).lease(owner(home, tmp_path / "b"), [wildcard], ssh=None, running=False)
    Ports(home).lease(
        owner(home, tmp_path / "b"), [Port(guest=53, host=number, protocol="udp")], ssh=None, running=False
    )


def test_a_running_machines_own_port_is_not_in_its_way(home: HomeLayout, tmp_path: Path) -> None:
    web = owner(home, tmp_path / "a")
    (before,) = Ports(home).lease(web, [], ssh=22, running=False)
    with socket.create_server(("127.0.0.1", before.host)):
        assert Ports(home).lease(web, [], ssh=22, running=True) == (before,)
        (moved,) = Ports(home).lease(web, [], ssh=22, running=False)
    assert moved.host != before.host


def test_what_served_a_machine_that_is_off_may_need_a_moment_to_end(home: HomeLayout, tmp_path: Path) -> None:
    web, wanted = owner(home, tmp_path / "a"), [Port(guest=80, host=free_port())]
    had = Ports(home).lease(web, wanted, ssh=22, running=False)
    old = [socket.create_server(("127.0.0.1", forward.host)) for forward in had]

    def end() -> None:
        for one in old:
            one.close()

    ending = threading.Timer(0.3, end)
    ending.start()
    assert Ports(home).lease(web, wanted, ssh=22, running=False) == had
    ending.join()


def test_a_program_that_stays_on_a_machines_port_is_named(
    home: HomeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_ports, "LETTING_GO", 0.1)
    web, wanted = owner(home, tmp_path / "a"), [Port(guest=80, host=free_port())]
    Ports(home).lease(web, wanted, ssh=None, running=False)
    with socket.create_server(("127.0.0.1", wanted[0].host or 0)), pytest.raises(PortTaken, match="are taken"):
        Ports(home).lease(web, wanted, ssh=None, running=False)


def test_release_gives_ports_back(home: HomeLayout, tmp_path: Path) -> None:
    number = free_port()
    web = owner(home, tmp_path / "a")
    Ports(home).lease(web, [Port(guest=80, host=number)], ssh=22, running=False)
    Ports(home).release(web)
    Ports(home).release(structs.replace(web, machine="never there"))
    Ports(home).lease(owner(home, tmp_path / "b"), [Port(guest=80, host=number)], ssh=22, running=False)


def test_the_leases_of_a_deleted_project_are_free_again(home: HomeLayout, tmp_path: Path) -> None:
    number = free_port()
    gone = owner(home, tmp_path / "a")
    Ports(home).lease(gone, [Port(guest=80, host=number)], ssh=22, running=False)
    shutil.rmtree(tmp_path / "a")
    Ports(home).lease(owner(home, tmp_path / "b"), [Port(guest=80, host=number)], ssh=22, running=False)


def test_a_moved_project_has_its_ports_still(home: HomeLayout, tmp_path: Path) -> None:
    (before,) = Ports(home).lease(owner(home, tmp_path / "a"), [], ssh=22, running=False)
    (tmp_path / "a").rename(tmp_path / "b")
    with socket.create_server(("127.0.0.1", before.host)):
        assert Ports(home).lease(owner(home, tmp_path / "b"), [], ssh=22, running=True) == (before,)


@pytest.mark.parametrize("content", ["[3]", '{"a": 1}', '"x"', '[{"owner": {}, "forward": {}}]'])
def test_damaged_leases_are_an_error(home: HomeLayout, tmp_path: Path, content: str) -> None:
    web = owner(home, tmp_path / "a")
    home.ports.write_text(content)
    with pytest.raises(VmctlError, match="is damaged"):
        Ports(home).lease(web, [], ssh=22, running=False)


def test_a_project_whose_identity_can_not_be_read_keeps_its_ports(home: HomeLayout, tmp_path: Path) -> None:
    web = owner(home, tmp_path / "a")
    (ssh,) = Ports(home).lease(web, [], ssh=22, running=False)
    (home.projects / web.project / "place.json").write_text("{")
    other = Ports(home).lease(owner(home, tmp_path / "b"), [], ssh=22, running=False)
    assert other[0].host != ssh.host
