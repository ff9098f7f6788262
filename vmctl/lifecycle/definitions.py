"""From a spec and a record to the ``Definition`` that drivers and the seed are given: every choice is made here."""

from __future__ import annotations

import hashlib
import ipaddress

from vmctl import __version__, folders
from vmctl.driver import Definition, Features, Nic, Tag
from vmctl.layout import MachineLayout
from vmctl.spec import MachineSpec, Network
from vmctl.store.records import Record

LOCAL_UNICAST = "52:54:00"  # QEMU's prefix: locally administered


def mac(project: str, machine: str, index: int) -> str:
    """A stable MAC address for NIC ``index`` (1 = NAT); the same in every run, different in every project."""
    digest = hashlib.sha256(f"{project}/{machine}/{index}".encode()).digest()
    return ":".join([LOCAL_UNICAST, *(f"{byte:02x}" for byte in digest[:3])])


def build(spec: MachineSpec, record: Record, features: Features, layout: MachineLayout, *, root: str) -> Definition:
    """The definition of a machine.

    Raises:
        UsageError: a folder wants a kind of sharing that the driver does not offer here.
    """
    return Definition(
        name=record.name,
        tag=Tag(project=record.project, machine=spec.name, version=__version__, root=root),
        spec=spec,
        mac=_first_mac(spec, record, features),
        console=layout.console,
        seed=layout.seed if record.box.cloud_init else None,
        forwards=record.forwards,
        nics=tuple(_nic(record.project, spec.name, number, net) for number, net in enumerate(spec.networks, 2)),
        shares=folders.shares(spec, features, user_uid=record.uid),
        network_prefix=f"vmctl-{record.project[:8]}",
    )


def _first_mac(spec: MachineSpec, record: Record, features: Features) -> str:
    """NIC 1's address: the one that the box's guest is tied to, where NIC 1 is alone on its network."""
    if record.box.mac and features.user_network:
        return record.box.mac
    return mac(record.project, spec.name, 1)


def _nic(project: str, machine: str, index: int, network: Network) -> Nic:
    own_address = ipaddress.IPv4Interface(f"{network.ip}/{network.netmask}")  # the loader allocates every address
    own = mac(project, machine, index)
    return Nic(
        network=network.name,
        mac=own,
        ip=str(own_address.ip),
        prefix=own_address.network.prefixlen,
        isolated=network.isolated,
    )
