"""What cannot work, found before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vmctl import process
from vmctl.driver import Definition, Disk, Features
from vmctl.errors import UsageError
from vmctl.knobs import Fault
from vmctl.spec import MachineSpec
from vmctl_libvirt import domain_edit, knobs, machines, networks, shares, xml_text
from vmctl_libvirt.domain import DEFAULT_MACHINES
from vmctl_libvirt.libvirt_connection import LibvirtConnection
from vmctl_libvirt.libvirt_errors import library
from vmctl_libvirt.storage import Storage
from vmctl_libvirt.uris import AUTO

KEEP_LOCAL = "sudo ip route add 239.192.0.0/14 dev lo"
PASST_SINCE = 9_002_000
"""9.0 documents it and refuses it (libvirt issue 462)."""
UEFI = "uefi"
NO_UEFI = "libvirt finds no UEFI firmware on its host"
INSTALL_UEFI = "sudo apt-get install ovmf"


def offline(definition: Definition, uri: str) -> Iterator[Fault]:
    """The faults that show without asking libvirt."""
    spec = definition.spec
    yield from knobs.faults(spec)
    own = knobs.options(spec).get("uri") or uri
    if own != uri and not {own, uri} <= {AUTO, ""}:
        yield Fault("libvirt.uri", f"must be the same for the whole project, which uses {uri}")
    if not any(knobs.faults(spec)):
        yield from _forwards(definition, knobs.read(spec))


def faults(definition: Definition, connection: Any, door: LibvirtConnection, features: Features) -> Iterator[Fault]:
    """The faults that libvirt, or this host, must be asked about."""
    if not any(knobs.faults(definition.spec)):
        chosen = knobs.read(definition.spec)
        yield from _first_nic(chosen, connection, door)
        if chosen.firmware == UEFI and door.abilities.runs_guests:
            yield from _firmware(chosen, connection)
    yield from _shares(definition, door, features)
    yield from _disk(definition, connection, Storage(connection, door.abilities))
    if door.abilities.is_session:
        yield from _multicast(definition)
    else:
        yield from _subnets(definition, connection, door)


def leak(definition: Definition, door: LibvirtConnection) -> str:
    """The device by which a session-mode network leaves this host, for others on that LAN to see; "" = by none."""
    if not door.abilities.is_session:
        return ""
    groups = (networks.mcast_group(definition.network_prefix, nic.network) for nic in definition.nics)
    devices = {networks.multicast_device(group.address) for group in groups}
    return next(iter(sorted(devices - {"", networks.LOOPBACK})), "")


def why_not_listed(connection: Any, arch: str) -> str:
    """Why KVM cannot be used by libvirt's own account, or ""."""
    libvirt = library()
    try:
        connection.getDomainCapabilities(None, arch, None, "kvm", 0)
    except libvirt.libvirtError as error:
        return f"libvirt offers none for {arch}: {error}"
    return ""


def _forwards(definition: Definition, chosen: knobs.LibvirtKnobs) -> Iterator[Fault]:
    asked = [forward for forward in definition.forwards if forward.name != "ssh"]
    if chosen.management_network and asked:
        yield Fault(
            "ports", "cannot be forwarded with libvirt.management_network; connect to the machine's own address"
        )
    for index, forward in enumerate(asked):
        if ":" in forward.host_ip and chosen.user_network == "slirp":
            yield Fault(f"ports.{index}", f"{forward.host_ip}: QEMU's user network listens on IPv4 addresses only")


def _first_nic(chosen: knobs.LibvirtKnobs, connection: Any, door: LibvirtConnection) -> Iterator[Fault]:
    name = chosen.management_network
    if name and networks.find(connection, name) is None:
        known = ", ".join(sorted(each.name() for each in connection.listAllNetworks(0))) or "none"
        yield Fault("libvirt.management_network", f"libvirt has no network {name!r} (it has: {known})")
    if chosen.user_network == "passt" and not name:
        if door.abilities.version < PASST_SINCE:
            yield Fault("libvirt.user_network", "passt needs libvirt 9.2 or newer")
        elif door.abilities.is_local and not _is_installed("passt"):
            yield Fault("libvirt.user_network", "passt is not installed (sudo apt-get install passt)")


def _firmware(chosen: knobs.LibvirtKnobs, connection: Any) -> Iterator[Fault]:
    arch = connection.getInfo()[0]
    if not is_uefi_offered(connection, arch, chosen.machine):
        yield Fault("libvirt.firmware", f"{NO_UEFI} ({INSTALL_UEFI})")


def _shares(definition: Definition, door: LibvirtConnection, features: Features) -> Iterator[Fault]:
    for share in definition.shares:
        if share.kind not in features.folders:
            yield Fault(
                "synced_folders",
                f"{share.host}: {share.kind} is not possible with {door.abilities.uri} here; use `type: rsync`",
            )
        elif not share.host.is_dir():
            yield Fault("synced_folders", f"{share.host}: no such directory")
        elif (owner := shares.foreign_owner(share.host)) is not None:
            yield Fault(
                "synced_folders",
                f"{share.host} belongs to uid {owner}, not to you, and a live folder gives the guest its owner's"
                " rights; use `type: rsync`, which has yours",
            )


def _disk(definition: Definition, connection: Any, storage: Storage) -> Iterator[Fault]:
    wanted = definition.spec.disk
    domain = machines.find(connection, definition.name) if wanted is not None else None
    present = storage.size(domain_edit.root_disk(domain)) if domain is not None else None
    if wanted is not None and present is not None and wanted < present:
        yield Fault("disk", f"{wanted} bytes is less than the disk has now ({present}); a disk cannot shrink")


def _multicast(definition: Definition) -> Iterator[Fault]:
    for index, nic in enumerate(definition.nics):
        group = networks.mcast_group(definition.network_prefix, nic.network)
        if not networks.multicast_device(group.address):
            yield Fault(
                f"networks.{index}",
                f"this host has no route for multicast, which carries networks in session mode ({KEEP_LOCAL})",
            )


def _subnets(definition: Definition, connection: Any, door: LibvirtConnection) -> Iterator[Fault]:
    wanted = networks.subnets(definition)
    if not wanted:
        return
    by_host = networks.taken_by_host() if door.abilities.is_local and door.abilities.runs_guests else []
    by_libvirt = list(networks.taken_by_libvirt(connection))
    for each, obstacle in networks.overlaps(wanted, by_libvirt, by_host):
        index = wanted.index(each)
        yield Fault(f"networks.{index}", f"{each.subnet} cannot be used: {obstacle}")


def _is_installed(program: str) -> bool:
    try:
        process.find(program)
    except process.ProgramMissing:
        return False
    return True


def is_uefi_offered(connection: Any, arch: str, machine: str) -> bool:
    """Whether libvirt can choose a UEFI for machines of a type ("" = vmctl's choice).

    libvirt itself looks for one only when the machine is made or started.
    """
    machine = machine or DEFAULT_MACHINES.get(arch, "virt")
    return offers_uefi(connection.getDomainCapabilities(None, arch, machine, None, 0))


def offers_uefi(capabilities: str) -> bool:
    """Whether a domain's capabilities (XML) list UEFI among the kinds of firmware to choose from."""
    root = xml_text.parse(capabilities)
    return any(value.text == "efi" for value in root.iterfind("os/enum[@name='firmware']/value"))


def no_uefi(box: str) -> UsageError:
    """The error for a box that needs UEFI."""
    return UsageError(f"the box {box} boots by UEFI, and {NO_UEFI}", hint=INSTALL_UEFI)


def disk_size(spec: MachineSpec, base: Disk) -> int:
    """Size of the machine's root disk.

    Raises:
        UsageError: the Vmfile wants less than the box has.
    """
    if spec.disk is not None and spec.disk < base.virtual_size:
        place = f"{spec.places['disk']}: " if "disk" in spec.places else ""
        raise UsageError(
            f"{place}machines.{spec.name}.disk: {spec.disk} bytes is less than the box's {base.virtual_size}",
            hint="raise `disk:`, or leave it out to take the box's size",
        )
    return spec.disk or base.virtual_size
