from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import structs

from vmctl import iso, key_pairs, seed
from vmctl.driver import Definition, Features, Nic, Tag
from vmctl.errors import UsageError
from vmctl.seed import GuestIdentity, has_name_server, nocloud
from vmctl.spec import BoxRef, MachineSpec

FEATURES = Features(formats=("qcow2",), folders=())


@pytest.fixture
def definition(tmp_path: Path) -> Definition:
    return Definition(
        name="shop-web-01234567",
        tag=Tag(project="0123456789abcdef" * 2, machine="web", version="0"),
        spec=MachineSpec(name="web", box=BoxRef(address="debian-12"), hostname="web.example.org"),
        mac="52:54:00:AB:CD:01",
        console=tmp_path / "console.log",
        nics=(Nic(network="backend", mac="52:54:00:ab:cd:02", ip="192.168.56.10", prefix=24),),
    )


class Seed:
    """A machine's directory: writes seeds there and reads them back."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "seed.iso"
        self.host_key = directory / "host_ed25519"
        self.public_key = key_pairs.ensure(directory / "id_ed25519")
        self.host_public = key_pairs.ensure(self.host_key)
        self.resolv_conf = directory / "resolv.conf"
        self.resolv_conf.write_text("search lan\nnameserver 192.0.2.1\n")

    def write(
        self, definition: Definition, features: Features = FEATURES, *, user: str = "vmctl", **numbers: Any
    ) -> bool:
        return seed.write(
            self.path,
            GuestIdentity(
                definition=definition,
                features=features,
                user=user,
                public_key=self.public_key,
                host_key=self.host_key,
                **numbers,
            ),
            resolv_conf=self.resolv_conf,
        )

    def read(self, name: str) -> Any:
        return yaml.safe_load(seed.read(self.path)[name])


@pytest.fixture
def machine(tmp_path: Path) -> Seed:
    return Seed(tmp_path)


def test_the_image_is_private_and_labelled_for_cloud_init(machine: Seed, definition: Definition) -> None:
    assert machine.write(definition)
    assert stat.S_IMODE(machine.path.stat().st_mode) == 0o600
    assert machine.path.read_bytes()[16 * 2048 + 40 :][:32].rstrip() == b"cidata"
    assert seed.read(machine.path)["user-data"].startswith("#cloud-config\n")


def test_the_user_logs_in_with_the_machines_key_only(machine: Seed, definition: Definition) -> None:
    machine.write(definition, uid=1234, gid=1234)
    (user,) = machine.read("user-data")["users"]
    assert user["name"] == "vmctl"
    assert user["ssh_authorized_keys"] == [machine.public_key]
    assert user["lock_passwd"] is True
    assert user["sudo"] == "ALL=(ALL) NOPASSWD:ALL"
    assert user["uid"] == 1234
    assert "primary_group" not in user
    assert "bootcmd" not in machine.read("user-data")


def test_a_group_of_another_number_is_made_where_it_is_missing(machine: Seed, definition: Definition) -> None:
    machine.write(definition, uid=1000, gid=100)
    data = machine.read("user-data")
    assert data["users"][0]["primary_group"] == "100"
    assert data["bootcmd"] == [["sh", "-c", nocloud.MAKE_GROUP, "sh", "100", "vmctl"]]


def test_the_host_key_is_the_given_one(machine: Seed, definition: Definition) -> None:
    machine.write(definition)
    data = machine.read("user-data")
    assert data["ssh_keys"] == {
        "ed25519_private": machine.host_key.read_text(),
        "ed25519_public": machine.host_public,
    }
    assert data["ssh_deletekeys"] is True


def test_hostname_and_fqdn(machine: Seed, definition: Definition) -> None:
    machine.write(definition)
    data = machine.read("user-data")
    assert (data["hostname"], data["fqdn"]) == ("web", "web.example.org")
    assert machine.read("meta-data")["local-hostname"] == "web.example.org"


def test_nic_1_is_static_where_the_driver_names_an_address(machine: Seed, definition: Definition) -> None:
    machine.write(definition)
    nic = machine.read("network-config")["ethernets"]["eth0"]
    assert nic["match"] == {"macaddress": "52:54:00:ab:cd:01"}
    assert nic["addresses"] == ["10.0.2.15/24"]
    assert nic["routes"] == [{"to": "0.0.0.0/0", "via": "10.0.2.2"}]
    assert nic["nameservers"] == {"addresses": ["10.0.2.3"]}


def test_nic_1_asks_by_dhcp_where_the_driver_names_none(machine: Seed, definition: Definition) -> None:
    machine.write(definition, structs.replace(FEATURES, nic1_address=""))
    nic = machine.read("network-config")["ethernets"]["eth0"]
    assert nic["dhcp4"] is True
    assert "addresses" not in nic


@pytest.mark.parametrize("text", ["", "# nameserver 192.0.2.1\n", "nameserver\n", "nameserver nonsense\n"])
def test_without_a_name_server_on_the_host_the_guest_waits_for_none(
    machine: Seed, definition: Definition, text: str
) -> None:
    machine.resolv_conf.write_text(text)
    machine.write(definition)
    assert "nameservers" not in machine.read("network-config")["ethernets"]["eth0"]


@pytest.mark.parametrize("text", ["nameserver 127.0.0.53\n", "nameserver ::1\n", "domain x\nnameserver fe80::1%eth0"])
def test_any_address_counts_as_a_name_server(tmp_path: Path, text: str) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert has_name_server(path)


def test_a_host_without_resolv_conf_has_no_name_server(tmp_path: Path) -> None:
    assert not has_name_server(tmp_path / "absent")


def test_further_nics_are_static_and_never_waited_for(machine: Seed, definition: Definition) -> None:
    machine.write(definition)
    nic = machine.read("network-config")["ethernets"]["eth1"]
    assert nic["match"] == {"macaddress": "52:54:00:ab:cd:02"}
    assert nic["addresses"] == ["192.168.56.10/24"]
    assert nic["optional"] is True


def test_the_same_input_leaves_the_image_alone(machine: Seed, definition: Definition) -> None:
    machine.write(definition)
    before = machine.path.stat()
    assert not machine.write(definition)
    assert machine.path.stat().st_ino == before.st_ino


def test_a_damaged_image_is_written_again(machine: Seed, definition: Definition) -> None:
    machine.path.write_bytes(b"\0" * 4096)
    assert machine.write(definition)
    assert machine.read("meta-data")


def test_network_and_hostname_keep_the_instance(machine: Seed, definition: Definition) -> None:
    machine.write(definition)
    before = machine.read("meta-data")["instance-id"]
    spec = structs.replace(definition.spec, hostname="other")
    assert machine.write(structs.replace(definition, nics=(), spec=spec))
    assert machine.read("meta-data")["instance-id"] == before
    assert machine.read("user-data")["updates"] == {"network": {"when": ["boot"]}}


def test_another_user_or_host_key_is_another_instance(machine: Seed, definition: Definition) -> None:
    machine.write(definition)
    before = machine.read("meta-data")["instance-id"]
    machine.write(definition, uid=4321)
    other_user = machine.read("meta-data")["instance-id"]
    machine.host_key.unlink()
    key_pairs.public_path(machine.host_key).unlink()
    machine.host_public = key_pairs.ensure(machine.host_key)
    machine.write(definition, uid=4321)
    assert len({before, other_user, machine.read("meta-data")["instance-id"]}) == 3


def test_odd_characters_survive(machine: Seed, definition: Definition) -> None:
    machine.public_key = 'ssh-ed25519 AAAA "quoted": {name} # é 🐧'
    machine.write(definition)
    assert machine.read("user-data")["users"][0]["ssh_authorized_keys"] == [machine.public_key]
    assert json.loads(seed.read(machine.path)["meta-data"])["local-hostname"] == "web.example.org"


def test_the_ready_made_files_say_the_same_as_no_cloud(machine: Seed, definition: Definition) -> None:
    machine.write(definition, uid=1234, gid=100)
    texts = seed.read(machine.path)
    assert texts["vmctl/instance-id"].strip() == machine.read("meta-data")["instance-id"]
    assert (texts["vmctl/user"], texts["vmctl/uid"], texts["vmctl/gid"]) == ("vmctl\n", "1234\n", "100\n")
    assert texts["vmctl/authorized_keys"] == f"{machine.public_key}\n"
    assert texts["vmctl/ssh_host_ed25519_key"] == machine.host_key.read_text()
    assert texts["vmctl/ssh_host_ed25519_key.pub"].strip() == machine.host_public
    assert (texts["vmctl/hostname"], texts["vmctl/hosts"]) == ("web\n", "127.0.1.1\tweb.example.org web\n")
    assert texts["vmctl/resolv.conf"] == "nameserver 10.0.2.3\n"
    assert texts["vmctl/network/10-vmctl-eth0.link"] == ("[Match]\nMACAddress=52:54:00:ab:cd:01\n\n[Link]\nName=eth0\n")
    first = texts["vmctl/network/10-vmctl-eth0.network"].splitlines()
    assert {"Address=10.0.2.15/24", "Gateway=10.0.2.2", "DNS=10.0.2.3"} <= set(first)
    second = texts["vmctl/network/10-vmctl-eth1.network"].splitlines()
    assert {"MACAddress=52:54:00:ab:cd:02", "Address=192.168.56.10/24", "RequiredForOnline=no"} <= set(second)
    assert "Gateway" not in texts["vmctl/network/10-vmctl-eth1.network"]


def test_a_host_without_a_name_server_gives_none(machine: Seed, definition: Definition) -> None:
    machine.resolv_conf.write_text("search lan\n")
    machine.write(definition)
    texts = seed.read(machine.path)
    assert "nameserver" not in texts["vmctl/resolv.conf"]
    assert "DNS=" not in texts["vmctl/network/10-vmctl-eth0.network"]


def test_every_seed_has_fresh_randomness(machine: Seed, definition: Definition) -> None:
    taken = []
    for _ in range(2):
        machine.path.unlink(missing_ok=True)
        machine.write(definition)
        taken.append(iso.read(machine.path)["vmctl/random-seed"])
    assert [len(random) for random in taken] == [512, 512]
    assert taken[0] != taken[1]


@pytest.mark.parametrize("user", ["me\nroot", "ALL", "-o", "a b", "%wheel", "#0", ""])
def test_a_user_that_is_no_name_is_refused(machine: Seed, definition: Definition, user: str) -> None:
    with pytest.raises(UsageError, match="invalid login user" if user else "invalid login user ''"):
        machine.write(definition, user=user)
    assert not machine.path.exists()


def test_a_hostname_that_is_no_name_is_refused(machine: Seed, definition: Definition) -> None:
    spec = structs.replace(definition.spec, hostname="web\n192.0.2.1 deb.debian.org")
    with pytest.raises(UsageError, match="invalid hostname"):
        machine.write(structs.replace(definition, spec=spec))
