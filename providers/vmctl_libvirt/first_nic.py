"""NIC 1, through which SSH and the forwarded ports go: QEMU's user-mode network, passt, or a libvirt network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import structs

from vmctl.driver import Address, Definition, Features, Forward, Tag
from vmctl.spec import MachineSpec
from vmctl_libvirt import knobs as knob_classes
from vmctl_libvirt import machines
from vmctl_libvirt.domain_mark import DomainMark
from vmctl_libvirt.knobs import LibvirtKnobs
from vmctl_libvirt.libvirt_errors import library

GUEST_ADDRESS = "10.0.2.15"
GUEST_PREFIX = 24
SLOT = "0x10"
"""PCI slot, out of the way of those that libvirt hands out; the guest names the NIC by it (enp0s16)."""
IPV4 = 0


@dataclass(frozen=True, kw_only=True)
class FirstNic:
    """NIC 1 with every choice made."""

    kind: str
    """slirp, passt or network."""
    mac: str
    network: str = ""
    forwards: tuple[Forward, ...] = ()
    bus: str = "pcie.0"
    address: str = GUEST_ADDRESS
    prefix: int = GUEST_PREFIX

    @classmethod
    def of(cls, definition: Definition, knobs: LibvirtKnobs, machine: str) -> FirstNic:
        """NIC 1 of a machine of the QEMU type ``machine``."""
        if knobs.management_network:
            return cls(kind="network", mac=definition.mac, network=knobs.management_network)
        is_i440fx = machine == "pc" or machine.startswith("pc-i440fx")
        return cls(
            kind=knobs.user_network,
            mac=definition.mac,
            forwards=definition.forwards,
            bus="pci.0" if is_i440fx else "pcie.0",
        )

    @property
    def argv(self) -> tuple[str, ...]:
        """QEMU's arguments for slirp. libvirt's own ``<interface type='user'>`` cannot forward ports with it."""
        forwards = (
            f"hostfwd={forward.protocol}:{forward.host_ip}:{forward.host}-:{forward.guest}" for forward in self.forwards
        )
        # No IPv6: slirp would announce a route that leads nowhere on most hosts.
        netdev = ",".join(["user", "id=vmctl0", "ipv6=off", *forwards])
        device = f"virtio-net-pci,netdev=vmctl0,mac={self.mac},bus={self.bus},addr={SLOT},romfile="
        return ("-netdev", netdev, "-device", device)


def ssh_forward(definition: Definition, knobs: LibvirtKnobs) -> Address | None:
    """Where the host forwards SSH from; None when the guest is reached at an address of its own."""
    if knobs.management_network:
        return None
    ssh = next((forward for forward in definition.forwards if forward.name == "ssh"), None)
    return Address(host=ssh.host_ip, port=ssh.host) if ssh else None


def address_of(connection: Any, name: str, tag: Tag) -> Address | None:
    """Where SSH of the machine ``name`` answers; None while it is off, or has no address yet.

    That is the forward on the host's loopback, or the address that the guest got.
    """
    found = machines.find_ours(connection, name, tag)
    if found is None or not found[0].isActive():
        return None
    domain, mark = found
    return mark.ssh or _on_network(domain, mark)


def _on_network(domain: Any, mark: DomainMark) -> Address | None:
    """By the network's lease, then the host's ARP table, then the guest's own agent."""
    libvirt = library()
    for source in (
        libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
        libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
        libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
    ):
        try:
            interfaces = domain.interfaceAddresses(source, 0)
        except libvirt.libvirtError:
            continue  # this source knows nothing (yet); the next may
        for interface in (interfaces or {}).values():
            if (interface.get("hwaddr") or "").lower() == mark.mac.lower():
                for address in interface.get("addrs") or ():
                    if address["type"] == IPV4:
                        return Address(host=address["addr"], port=mark.ssh_port)
    return None


def features(usual: Features, spec: MachineSpec) -> Features:
    """What NIC 1 of a machine can do, where its knobs make another one of it. Wrong ones change nothing."""
    chosen = knob_classes.read(spec) if not any(knob_classes.faults(spec)) else LibvirtKnobs()
    if chosen.management_network:
        return structs.replace(usual, user_network=False, nic1_address="", nic1_gateway="", nic1_dns="")
    if chosen.user_network == "passt":  # which hands out the host's own name servers
        return structs.replace(usual, nic1_address="", nic1_gateway="", nic1_dns="")
    return usual
