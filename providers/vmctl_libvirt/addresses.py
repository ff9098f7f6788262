"""Where a machine's SSH answers: the forward on the host's loopback, or the address that the guest got."""

from __future__ import annotations

from typing import Any

from vmctl.driver import Address, Tag
from vmctl_libvirt import machines
from vmctl_libvirt.identity import DomainMark
from vmctl_libvirt.libvirt_errors import library

IPV4 = 0


def find(connection: Any, name: str, tag: Tag) -> Address | None:
    """The address of the machine ``name``; None while it is off, or has none yet."""
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
