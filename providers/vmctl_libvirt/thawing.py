"""Going on from kept memory: the same machine as then, on new overlays of the disks that were frozen with it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree as ET

from msgspec import structs

from vmctl import interrupt
from vmctl.driver import Definition, Disk, Tag
from vmctl.errors import VmctlError, WrongState
from vmctl_libvirt import domain_edit, live_shares, machines, networks
from vmctl_libvirt.building import Builder, layers_held, mark_for
from vmctl_libvirt.domain import Parts, Platform, domain_xml
from vmctl_libvirt.domain_edit import Edit
from vmctl_libvirt.domain_mark import DomainMark
from vmctl_libvirt.libvirt_errors import library
from vmctl_libvirt.patch import register_prefixes
from vmctl_libvirt.shares import SharedFolder

SCHEMA = 1
"""Goes up when machines are restored in another way."""
ALLOCATORS = 4
"""Threads at the most that allocate a machine's memory."""
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"


def memory_key(builder: Builder, definition: Definition, base: Disk) -> str:
    """As ``LibvirtDriver.memory_key``: what libvirt and QEMU compare when they restore, and what they do not.

    Host ports, and where folders lie on the host, may change while a machine is frozen.
    """
    platform = builder.platform(base.arch)
    tag = Tag(project=definition.tag.project, machine=definition.tag.machine, version="")
    mark = DomainMark(tag=tag, ssh=None, mac=definition.mac, arch=base.arch, firmware=base.firmware)
    parts = Parts(
        disk="1",
        further=tuple(str(number) for number, _ in enumerate(base.further, 2)),
        seed="seed" if definition.seed else "",
        shares=tuple(SharedFolder(tag=share.tag, host="", binary="") for share in definition.shares),
    )
    hardware = domain_xml(structs.replace(definition, forwards=()), platform, mark, parts)
    facts = [SCHEMA, hardware, *_versions(builder.connection, platform)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _versions(connection: Any, platform: Platform) -> list[object]:
    """Of what restores the machine; by KVM, its processor and the host's kernel are in the memory as well."""
    versions: list[object] = [connection.getLibVersion(), connection.getVersion(), platform.type]
    if platform.type == "kvm":
        cpu = ET.fromstring(connection.getCapabilities()).find("host/cpu")  # noqa: S314  libvirt made this text
        versions += ["" if cpu is None else ET.tostring(cpu, encoding="unicode")]
        versions += [os.uname().release if platform.is_local else connection.getHostname()]
    return versions


def thaw(builder: Builder, definition: Definition, key: str, word: Callable[[], bytes]) -> bool:
    """As ``LibvirtDriver.thaw``."""
    name, tag = definition.name, definition.tag
    if machines.find_ours(builder.connection, name, tag) is not None:
        raise WrongState(f"libvirt has a machine {name!r}", hint="vmctl status")
    with layers_held(builder.host):
        keeper = builder.keeper
        memory, ground = keeper.memory(key)
        if not memory:
            raise WrongState(f"libvirt has no memory {key[:12]}", hint="vmctl cache list")
        saved = _saved(builder.connection, memory)
        then = _paired(saved, definition, ground)
        mark = structs.replace(mark_for(definition, then.arch, then.firmware), run=secrets.token_hex(8))
        uuid = ET.fromstring(saved).findtext("uuid") or ""  # noqa: S314  as above
        builder.make(definition, mark, builder.of_layer(key, 0), uuid=uuid)
        try:
            return _go_on(builder, definition, memory, saved, word)
        except BaseException:
            with interrupt.shielded(), suppress(library().libvirtError, VmctlError):  # what failed first matters
                builder.destroy(name, tag)
            raise


def _saved(connection: Any, memory: str) -> str:
    return str(connection.saveImageGetXMLDesc(memory, library().VIR_DOMAIN_SAVE_IMAGE_XML_SECURE))


def _paired(saved: str, definition: Definition, ground: Sequence[str]) -> DomainMark:
    """The mark in the memory, which is this machine's, and was written when these very disks were.

    Raises:
        WrongState: it is another's, or belongs to other disks.
    """
    mark = domain_edit.mark_in(saved)
    name = ET.fromstring(saved).findtext("name")  # noqa: S314  as above
    if mark is None or not mark.tag.is_same(definition.tag) or name != definition.name:
        raise WrongState(f"that memory is not of {definition.name}", hint="vmctl cache list")
    if domain_edit.disks_in(saved) != tuple(ground):
        raise WrongState(f"that memory of {definition.name} belongs to other disks", hint="vmctl cache list")
    return mark


def _go_on(builder: Builder, definition: Definition, memory: str, saved: str, word: Callable[[], bytes]) -> bool:
    connection = builder.connection
    domain = connection.lookupByName(definition.name)
    networks.start(connection, networks.used_by(domain))
    machines.prepare_console(domain, keep=False)
    text = _renewed(saved, domain_edit.inactive_xml(domain))
    connection.restoreFlags(memory, text, library().VIR_DOMAIN_SAVE_PAUSED)
    live_shares.attach(domain)
    told = bool(definition.seed) and builder.storage.begin_seed(definition.name, word())
    domain.resume()
    return told


def _renewed(saved: str, wanted: str) -> str:
    """The machine of then with what it shall have now: its mark, its disks, its ports and files on the host."""
    register_prefixes()
    edited = Edit(disks=domain_edit.disks_in(wanted), mark=domain_edit.mark_in(wanted)).applied_to(saved)
    old, new = ET.fromstring(edited), ET.fromstring(wanted)  # noqa: S314  libvirt made these texts
    for words in old.findall(f"{QEMU}commandline"):
        old.remove(words)
    old.extend(new.findall(f"{QEMU}commandline"))
    for path in ("devices/interface[@type='user']", "devices/serial[@type='file']"):
        for before, after in zip(old.findall(path), new.findall(path), strict=True):
            _take_over(before, after)
    _allocate_at_once(old)
    return ET.tostring(old, encoding="unicode")


def _allocate_at_once(machine: ET.Element) -> None:
    """Have QEMU allocate shared memory by several threads, not page by page while it reads what was kept.

    It would touch all of it, empty pages as well.
    """
    backing = machine.find("memoryBacking")
    if backing is not None and backing.find("allocation") is None:
        threads = str(min(os.cpu_count() or 1, ALLOCATORS))
        ET.SubElement(backing, "allocation", mode="immediate", threads=threads)


def _take_over(before: ET.Element, after: ET.Element) -> None:
    """Ports that are forwarded, and the file that is written to, are the host's business."""
    for name in ("portForward", "source"):
        for each in before.findall(name):
            before.remove(each)
        before.extend(after.findall(name))
