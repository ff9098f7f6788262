import subprocess
from pathlib import Path
from typing import Any

import pytest

from vmctl.driver import Observed, State, Tag
from vmctl.layout import MachineLayout
from vmctl.lifecycle import etc_hosts
from vmctl.spec import BoxRef, MachineSpec, Network
from vmctl.store.records import BoxUsed, Record
from vmctl.workspace import Machine


def machine(name: str, *networks: tuple[str, str], applied: list[str] | None = None, hostname: str = "") -> Machine:
    cards = tuple(Network(name=network, ip=ip) for network, ip in networks)
    box = BoxUsed(name="debian-12", version="1", digest="0", user="u")
    record = Record(
        name=name, project="p", machine=name, provider="fake", box=box, version="1", user="u",
        applied={} if applied is None else {"networks": applied},
    )  # fmt: skip
    return Machine(
        name=name, layout=MachineLayout(Path("/nowhere")), provider="fake", reason="", domain=name, record=record,
        spec=MachineSpec(name=name, box=BoxRef(address="debian-12"), networks=cards, hostname=hostname or name),
        observed=Observed(state=State.RUNNING, tag=Tag(project="p", machine=name, version="1")),
    )  # fmt: skip


def blocks(*machines: Machine, starting: bool = True) -> dict[str, str]:
    return etc_hosts.blocks("shop", [(one, etc_hosts.addresses(one, starting=starting)) for one in machines])


def lines(block: str) -> list[str]:
    begin, *found, end = block.splitlines()
    assert (begin, end) == (etc_hosts.BEGIN, etc_hosts.END)
    return found


def test_everybody_on_a_network_knows_everybody_there() -> None:
    found = blocks(
        machine("web-1", ("lan", "192.168.56.10"), hostname="www.shop.test"), machine("db", ("lan", "192.168.56.20"))
    )
    assert found["web-1"] == found["db"]
    assert lines(found["db"]) == ["192.168.56.10 web-1 web-1.shop www.shop.test", "192.168.56.20 db db.shop"]


def test_a_name_means_the_address_that_can_be_reached() -> None:
    found = blocks(
        machine("web", ("front", "192.168.57.2"), ("back", "192.168.56.2")),
        machine("db", ("back", "192.168.56.3")),
        machine("proxy", ("front", "192.168.57.4")),
        machine("alone"),
    )
    assert lines(found["web"]) == [
        "192.168.57.2 web web.shop", "192.168.56.3 db db.shop", "192.168.57.4 proxy proxy.shop"
    ]  # fmt: skip
    assert lines(found["db"]) == ["192.168.56.2 web web.shop", "192.168.56.3 db db.shop"]
    assert "alone" not in found


def test_a_running_machine_keeps_the_address_that_it_was_told() -> None:
    moved = machine("web", ("lan", "192.168.56.99"), applied=["lan 192.168.56.10/255.255.255.0"])
    assert "192.168.56.10 web" in blocks(moved, starting=False)["web"]
    assert "192.168.56.99 web" in blocks(moved)["web"]


BLOCK = f"{etc_hosts.BEGIN}\n192.168.56.10 web\n{etc_hosts.END}\n"


def written(hosts: Path, block: str, **settings: Any) -> str:
    argv = ["sh", "-c", etc_hosts.WRITE, "sh", str(hosts), etc_hosts.BEGIN, etc_hosts.END]
    subprocess.run(argv, input=block, check=True, text=True, **settings)
    return hosts.read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("127.0.0.1 localhost\n", f"127.0.0.1 localhost\n{BLOCK}"),
        (f"a\n{etc_hosts.BEGIN}\nold\n{etc_hosts.END}\nb\n", f"a\nb\n{BLOCK}"),
        ("no end of line", f"no end of line\n{BLOCK}"),
        (f"a\n{etc_hosts.BEGIN}\nmine\n", f"a\nmine\n{BLOCK}"),
        (f"{etc_hosts.BEGIN}\nmine\n{etc_hosts.BEGIN}\nold\n{etc_hosts.END}\n", f"mine\n{BLOCK}"),
        ("", BLOCK),
    ],
)
def test_the_block_takes_the_place_of_the_old_one_and_of_nothing_else(tmp_path: Path, before: str, after: str) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(before)
    hosts.chmod(0o640)
    assert written(hosts, BLOCK) == after
    assert written(hosts, BLOCK) == after
    assert hosts.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["hosts"]


def test_no_block_removes_the_old_one(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"a\n{BLOCK}")
    assert written(hosts, "") == "a\n"
