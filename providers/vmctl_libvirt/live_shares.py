"""Taking virtiofs shares out of a running machine and putting them back: with one, memory is not saved.

libvirt 9.0 crashes when it is to serve a share that is plugged into a running machine, where it has no cgroups. There,
and in session mode (``own_virtiofsd``), we run virtiofsd and give libvirt its socket. That virtiofsd ends when QEMU
closes its end: with its machine, or when the share is taken out.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from vmctl import process
from vmctl.driver import Tag
from vmctl.errors import VmctlError, WrongState
from vmctl.wait import Deadline, until
from vmctl_libvirt import domain_edit, machines, own_virtiofsd, shares
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.libvirt_errors import library, virsh
from vmctl_libvirt.shares import SharedFolder

PATIENCE = 30.0
"""Seconds for a guest to let go of a share; an emulated one takes 3."""
RUNTIME = Path("/run")
ROOT = 0


def attached(domain: Any) -> dict[str, ET.Element]:
    """The virtiofs devices of a running machine, by tag."""
    return _devices(domain.XMLDesc(0))


def _devices(text: str) -> dict[str, ET.Element]:
    found = ET.fromstring(text).iterfind("devices/filesystem")  # noqa: S314  libvirt made this text
    return {_tag(each): each for each in found if (driver := each.find("driver")) is not None and _is_virtiofs(driver)}


def detach_from(connection: Any, name: str, tag: Tag, abilities: Abilities) -> bool:
    """As ``detach``, by the machine's name; one that does not run has nothing to take out."""
    domain, _ = machines.must_find(connection, name, tag)
    return domain.isActive() == 1 and detach(domain, abilities)


def attach_to(connection: Any, name: str, tag: Tag) -> None:
    """As ``attach``, by the machine's name; one that does not run gets them when it starts."""
    domain, _ = machines.must_find(connection, name, tag)
    if domain.isActive() == 1:
        attach(domain)


def detach(domain: Any, abilities: Abilities) -> bool:
    """Take all shares out of a running machine, whose guest has unmounted them; whether there were any.

    Raises:
        WrongState: they could not be put back, or the guest does not let go of one.
    """
    libvirt = library()
    there, ours = attached(domain), shares.read_notes(domain)
    if not there:
        return False
    if not ours and not _has_cgroups(domain) and not (abilities.is_local and os.geteuid() == ROOT):
        raise WrongState(
            "libvirt has no cgroups on this host, so live folders can be taken out of a running machine by root alone",
            hint="vmctl halt",
        )
    for element in there.values():
        domain.detachDeviceFlags(ET.tostring(element, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    until(lambda: not attached(domain), Deadline.after(PATIENCE), "the guest to let go of its live folders")
    for folder in ours:
        own_virtiofsd.end(Path(folder.socket))
    return True


def attach(domain: Any) -> None:
    """Give a running machine those shares that it lacks of those that it is defined with."""
    there, defined = attached(domain), _devices(domain_edit.inactive_xml(domain))
    missing = [_folder(tag, element) for tag, element in defined.items() if tag not in there]
    if not missing:
        return
    live = library().VIR_DOMAIN_AFFECT_LIVE
    if ours := shares.read_notes(domain):
        _attach_own([folder for folder in ours if folder.tag not in there], domain)
        return
    by_libvirt = _has_cgroups(domain)
    for folder in missing:
        if by_libvirt:
            domain.attachDeviceFlags(_device(folder.tag, binary=folder.binary, host=folder.host), live)
            continue
        with _served(domain, folder) as path:
            domain.attachDeviceFlags(_device(folder.tag, socket_path=str(path)), live)


def _attach_own(folders: Sequence[SharedFolder], domain: Any) -> None:
    for folder in folders:
        with own_virtiofsd.served([folder]):
            text = _device(folder.tag, socket_path=folder.socket)
            domain.attachDeviceFlags(text, library().VIR_DOMAIN_AFFECT_LIVE)


def _folder(tag: str, element: ET.Element) -> SharedFolder:
    binary, source = element.find("binary"), element.find("source")
    return SharedFolder(
        tag=tag,
        binary="" if binary is None else binary.get("path", ""),
        host="" if source is None else source.get("dir", ""),
    )


def _tag(element: ET.Element) -> str:
    target = element.find("target")
    return "" if target is None else target.get("dir", "")


def _is_virtiofs(driver: ET.Element) -> bool:
    return driver.get("type") == "virtiofs"


def _has_cgroups(domain: Any) -> bool:
    """Whether libvirt put the machine into a cgroup: asked for what only a cgroup can tell."""
    try:
        domain.schedulerParameters()
    except library().libvirtError:
        return False
    return True


def _device(tag: str, *, binary: str = "", host: str = "", socket_path: str = "") -> str:
    """The device's XML, served by libvirt itself or behind a socket."""
    element = ET.Element("filesystem", type="mount")
    ET.SubElement(element, "driver", type="virtiofs")
    if socket_path:
        ET.SubElement(element, "source", socket=socket_path)
    else:
        element.set("accessmode", "passthrough")
        ET.SubElement(element, "binary", path=binary)
        ET.SubElement(element, "source", dir=host)
    ET.SubElement(element, "target", dir=tag)
    return ET.tostring(element, encoding="unicode")


@contextmanager
def _served(domain: Any, folder: SharedFolder) -> Iterator[Path]:
    """A socket behind which virtiofsd serves the folder, for QEMU to connect to in the meantime.

    Its name goes again afterwards: only QEMU's user may connect, and nobody a second time.
    """
    directory = Path(tempfile.mkdtemp(prefix="vmctl-", dir=RUNTIME))
    try:
        path = directory / secrets.token_hex(4)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o600)
            os.chown(path, *_label(domain))
            directory.chmod(0o711)  # QEMU has to pass; the directory's name is random, the socket is its user's
            listener.listen(1)
            number = listener.fileno()
            within = f"--connect-within={PATIENCE:.0f},fd={number}"  # it ends by itself, should this vmctl be killed
            argv = [folder.binary, within, "-o", f"source={folder.host.replace(',', ',,')}"]
            server = process.start_detached(argv, keep=(number,))
        try:
            yield path
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(server, signal.SIGTERM)
            raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _label(domain: Any) -> tuple[int, int]:
    """User and group that the machine's QEMU runs as.

    Raises:
        VmctlError: libvirt does not say.
    """
    root = ET.fromstring(domain.XMLDesc(0))  # noqa: S314  libvirt made this text
    text = root.findtext("seclabel[@model='dac']/label") or ""
    user, _, group = text.replace("+", "").partition(":")
    if not (user.isdigit() and group.isdigit()):
        hint = virsh(domain.connect(), "dumpxml", domain.name())
        raise VmctlError("libvirt does not say as whom the machine runs", details=text, hint=hint)
    return int(user), int(group)
