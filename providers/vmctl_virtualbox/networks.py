"""Further networks: host-only where this host can, internal where it cannot, bridged where the Vmfile names one.

VirtualBox allows host-only addresses in 192.168.56.0/21 only, unless /etc/vbox/networks.conf says otherwise.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vmctl import interrupt
from vmctl.driver import Definition, Nic
from vmctl.errors import VmctlError
from vmctl.knobs import Fault
from vmctl_virtualbox import answers
from vmctl_virtualbox.knobs import BRIDGED, HOSTONLY, INTERNAL, VirtualBoxKnobs
from vmctl_virtualbox.vboxmanage import VBoxManage

NETWORKS_CONF = Path("/etc/vbox/networks.conf")
CONTROL_DEVICE = Path("/dev/vboxnetctl")
DEFAULT_RANGES = (ipaddress.ip_network("192.168.56.0/21"),)
CREATED = re.compile(r"Interface '(.+?)' was successfully created")

Network = ipaddress.IPv4Network


@dataclass(frozen=True)
class Interface:
    """A network interface of the host: its name and its IPv4 network."""

    name: str
    address: str
    network: Network


def subnet(nic: Nic) -> Network:
    """The network that a NIC's address lies in."""
    return ipaddress.IPv4Network(f"{nic.ip}/{nic.prefix}", strict=False)


def allowed_ranges(text: str | None) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Ranges for host-only addresses by the text of networks.conf (None = there is no such file)."""
    if text is None:
        return DEFAULT_RANGES
    found: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for line in text.splitlines():
        star, *ranges = line.split() or [""]
        if star == "*":
            found += [ipaddress.ip_network(each, strict=False) for each in ranges]
    return tuple(found)


def host_interfaces(text: str) -> Iterator[Interface]:
    """Interfaces in ``list hostonlyifs`` or ``list bridgedifs``; those without an IPv4 address are left out."""
    for record in answers.records(text):
        address, mask = record.get("IPAddress", ""), record.get("NetworkMask", "")
        try:
            network = ipaddress.IPv4Network(f"{address}/{mask}", strict=False)
        except ValueError:
            continue
        if not ipaddress.ip_address(address).is_unspecified:
            yield Interface(record.get("Name", ""), address, network)


def kind(nic: Nic, knobs: VirtualBoxKnobs, *, can_hostonly: bool) -> str:
    """How a NIC is attached: hostonly, internal, or bridged:INTERFACE."""
    return knobs.networks.get(nic.network) or (HOSTONLY if can_hostonly and not nic.isolated else INTERNAL)


def can_hostonly() -> bool:
    """Whether this host has VirtualBox's network driver. Without it, machines still reach each other."""
    return sys.platform != "linux" or CONTROL_DEVICE.exists()


def networks_conf() -> str | None:
    """The text of networks.conf; None = absent (VirtualBox reads it on Linux and macOS only)."""
    try:
        return NETWORKS_CONF.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def faults(
    definition: Definition,
    knobs: VirtualBoxKnobs,
    *,
    can: bool,
    conf: str | None,
    others: Iterable[Interface],
    own: set[str],
) -> Iterator[Fault]:
    """What is wrong with a machine's networks.

    Args:
        definition: the machine.
        knobs: its knobs.
        can: whether host-only networks are possible here.
        conf: the text of networks.conf, if there is one.
        others: all interfaces of the host that have an address.
        own: names of the host's host-only interfaces.
    """
    taken = list(others)
    for index, nic in enumerate(definition.nics):
        path, how = f"networks.{index}", kind(nic, knobs, can_hostonly=can)
        if nic.isolated and how != INTERNAL:
            text = f"{nic.network} is isolated (as all are in `vmctl test`), and virtualbox.networks makes it {how}"
            yield Fault(path, text)
        if how == HOSTONLY and not can:
            yield Fault(path, f"no host-only networks without {CONTROL_DEVICE} (sudo modprobe vboxnetadp)")
        if how == HOSTONLY:
            yield from (Fault(path, message) for message in _hostonly_faults(nic, conf, taken, own))


def _hostonly_faults(
    nic: Nic,
    conf: str | None,
    taken: Sequence[Interface],
    own: set[str],
) -> Iterator[str]:
    wanted = subnet(nic)
    ranges = allowed_ranges(conf)
    if not any(isinstance(each, ipaddress.IPv4Network) and wanted.subnet_of(each) for each in ranges):
        yield (
            f"{wanted} is outside of what VirtualBox allows for host-only networks"
            f" ({', '.join(map(str, ranges))}); add `* {wanted}` to {NETWORKS_CONF}, or use another address"
        )
    for interface in taken:
        is_same = interface.name in own and interface.network == wanted
        if interface.network.overlaps(wanted) and not is_same:
            yield f"{wanted} overlaps with the host's {interface.name} ({interface.network})"
        elif is_same and interface.address == nic.ip:
            yield f"{nic.ip} is the host's own address on {interface.name}"


def attachment(door: VBoxManage, definition: Definition, nic: Nic, knobs: VirtualBoxKnobs) -> list[str]:
    """Options (without the NIC's number) that attach a NIC; makes the host-only interface where there is none."""
    how = kind(nic, knobs, can_hostonly=can_hostonly())
    if how == HOSTONLY:
        return ["--nic", "hostonly", "--host-only-adapter", _hostonly_interface(door, subnet(nic))]
    if how.startswith(BRIDGED):
        return ["--nic", "bridged", "--bridge-adapter", how.removeprefix(BRIDGED)]
    return ["--nic", "intnet", "--intnet", f"{definition.network_prefix}-{nic.network}"]


def _hostonly_interface(door: VBoxManage, wanted: Network) -> str:
    for interface in host_interfaces(door("list", "hostonlyifs")):
        if interface.network == wanted:
            return interface.name
    answer = door("hostonlyif", "create")
    created = CREATED.search(answer)
    if created is None:
        raise VmctlError("VirtualBox did not name the host-only interface that it made", details=answer.strip())
    try:
        address = str(next(wanted.hosts()))
        door("hostonlyif", "ipconfig", created[1], "--ip", address, "--netmask", str(wanted.netmask))
    except BaseException:
        with interrupt.shielded(), suppress(VmctlError):  # what failed first is what matters
            door("hostonlyif", "remove", created[1])
        raise
    return created[1]
