"""Addresses on the machines' networks: the given ones checked against each other, the missing ones allocated.

An allocated address depends on the network's and the machine's name first, so that adding a machine to a file
rarely moves another one's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from msgspec import Struct, field, structs

from vmctl.spec import Network
from vmctl.vmfile.cross_checks import item_node
from vmctl.vmfile.drafts import Draft
from vmctl.vmfile.faults import Faults
from vmctl.vmfile.network_keys import RANGE, unusable
from vmctl.vmfile.nodes import Node


class Card(Struct, frozen=True):
    """One network card of one machine."""

    draft: Draft
    number: int
    network: Network

    @property
    def node(self) -> Node:
        """Where it was written."""
        return item_node(self.draft, "networks", self.number)

    @property
    def interface(self) -> IPv4Interface | None:
        """Its address with the network's mask."""
        return IPv4Interface(f"{self.network.ip}/{self.network.netmask}") if self.network.ip else None


class AddressPlan(Struct):
    """Which subnet each network has, and who has which address."""

    faults: Faults
    subnets: dict[str, IPv4Network] = field(default_factory=dict)
    owners: dict[IPv4Address, str] = field(default_factory=dict)

    def refuse(self, card: Card, message: str) -> None:
        """Record a fault about a card."""
        self.faults.add(card.node.place, card.node.path, message)


def allocate(drafts: Sequence[Draft], faults: Faults) -> None:
    """Check all given addresses and fill in the missing ones; faults are recorded."""
    plan = AddressPlan(faults)
    cards = list(_cards(drafts, plan))
    _agree(cards, plan)
    for card in cards:
        if card.interface:
            _take(card, card.interface, plan)
    for card in cards:
        if not card.interface:
            _give(card, plan)


def _cards(drafts: Sequence[Draft], plan: AddressPlan) -> Iterator[Card]:
    for draft in drafts:
        seen: set[str] = set()
        for number, network in enumerate(draft.values.get("networks", ())):
            card = Card(draft, number, network)
            if network.name in seen:
                plan.refuse(card, f"'{draft.name}' is on the network '{network.name}' already")
            seen.add(network.name)
            yield card


def _agree(cards: Sequence[Card], plan: AddressPlan) -> None:
    """Refuse a network that is isolated for some of its machines."""
    first: dict[str, Card] = {}
    for card in cards:
        before = first.setdefault(card.network.name, card)
        if before.network.isolated != card.network.isolated:
            yes, no = (card, before) if card.network.isolated else (before, card)
            plan.refuse(
                card,
                f"the network '{card.network.name}' is isolated for '{yes.draft.name}' and not for '{no.draft.name}'",
            )


def _take(card: Card, interface: IPv4Interface, plan: AddressPlan) -> None:
    """Enter a given address."""
    if interface.ip not in RANGE or unusable(interface):
        problem = unusable(interface) or f"{interface.ip} is outside {RANGE}"
        plan.refuse(card, f"{problem} (for '{card.draft.name}')")
        return
    subnet = plan.subnets.get(card.network.name)
    if subnet is None:
        if other := _overlapping(interface.network, plan):
            plan.refuse(card, f"{interface.network} overlaps the network '{other}' ({plan.subnets[other]})")
            return
        plan.subnets[card.network.name] = interface.network
    elif subnet != interface.network:
        plan.refuse(
            card, f"{interface} of '{card.draft.name}' is not in {subnet}, as the network '{card.network.name}' is"
        )
        return
    if interface.ip in plan.owners:
        plan.refuse(
            card, f"{interface.ip} of '{card.draft.name}' is the address of '{plan.owners[interface.ip]}' already"
        )
        return
    plan.owners[interface.ip] = card.draft.name


def _overlapping(subnet: IPv4Network, plan: AddressPlan) -> str:
    return next((name for name, other in plan.subnets.items() if other.overlaps(subnet)), "")


def _give(card: Card, plan: AddressPlan) -> None:
    """Allocate an address and write it into the draft."""
    name = card.network.name
    subnet = plan.subnets.get(name) or _free_subnet(card, plan)
    address = _free_address(card, subnet, plan) if subnet else None
    if subnet is None or address is None:
        where = str(subnet) if subnet else str(RANGE)
        plan.refuse(card, f"no address is left in {where} for '{card.draft.name}'")
        return
    plan.subnets[name] = subnet
    plan.owners[address] = card.draft.name
    networks = list(card.draft.values["networks"])
    networks[card.number] = structs.replace(card.network, ip=str(address), netmask=str(subnet.netmask))
    card.draft.values["networks"] = tuple(networks)


def _free_subnet(card: Card, plan: AddressPlan) -> IPv4Network | None:
    prefix = IPv4Network(f"0.0.0.0/{card.network.netmask}").prefixlen
    return next((subnet for subnet in RANGE.subnets(new_prefix=prefix) if not _overlapping(subnet, plan)), None)


def _free_address(card: Card, subnet: IPv4Network, plan: AddressPlan) -> IPv4Address | None:
    """The first free address from a point that the names decide; never the network's, the host's or the broadcast."""
    first, size = int(subnet.network_address) + 2, subnet.num_addresses - 3
    import hashlib

    digest = hashlib.sha256(f"{card.network.name}/{card.draft.name}".encode()).digest()
    start = int.from_bytes(digest[:8], "big") % size
    for step in range(size):
        address = IPv4Address(first + (start + step) % size)
        if address not in plan.owners:
            return address
    return None
