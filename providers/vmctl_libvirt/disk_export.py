"""A stopped machine's disks in files of their own: with qemu-img where it can read the pool, else through libvirt."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from vmctl import interrupt, process, templates
from vmctl.driver import Tag
from vmctl.powers import Exported
from vmctl_libvirt import domain_edit, machines
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.pool import Volume
from vmctl_libvirt.storage import CHUNK, Storage

TEMPORARY = "export-"


def export(connection: Any, abilities: Abilities, name: str, tag: Tag, directory: Path) -> Exported:
    """Write a stopped machine's disks, each flattened into one qcow2.

    Raises:
        libvirt.libvirtError: libvirt failed.
        VmctlError: qemu-img failed, or the disk is full.
    """
    domain, _ = machines.must_find(connection, name, tag)
    targets = []
    for number, path in enumerate(Storage(connection, abilities).own(domain_edit.disks(domain)), 1):
        target = directory / f"disk-{number}.qcow2"
        if abilities.writes_pool:
            qemu_img = process.find("qemu-img", package="qemu-utils")
            process.run([qemu_img, "convert", "-f", "qcow2", "-O", "qcow2", "--", path, target])
        else:
            _through_libvirt(connection, abilities, path, target)
        targets.append(target)
    return Exported(disks=tuple(targets))


def _through_libvirt(connection: Any, abilities: Abilities, path: str, target: Path) -> None:
    """Have libvirt make a flat copy beside the volume, and download that."""
    volume = connection.storageVolLookupByPath(path)
    wanted = Volume(f"{TEMPORARY}{secrets.token_hex(8)}.qcow2", "qcow2", volume.info()[1])
    xml = templates.render("vmctl_libvirt", "volume.xml.j2", volume=wanted)
    copy = volume.storagePoolLookupByVolume().createXMLFrom(xml, volume, 0)
    try:
        _download(connection, abilities, copy, target)
    finally:
        with interrupt.shielded():
            copy.delete(0)


def _download(connection: Any, abilities: Abilities, volume: Any, target: Path) -> None:
    if not abilities.runs_guests:  # libvirt's test driver moves no bytes
        target.touch()
        return
    stream = connection.newStream(0)
    with target.open("wb") as writer:
        try:
            volume.download(stream, 0, 0, 0)
            while chunk := stream.recv(CHUNK):
                interrupt.check()
                writer.write(chunk)
            stream.finish()
        except BaseException:
            stream.abort()
            raise
