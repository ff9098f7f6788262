"""The element in a domain's metadata that says whose it is. No element, no touch."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from msgspec import Struct, structs

from vmctl.driver import Address, Tag
from vmctl.spec import DEFAULT_SSH_PORT
from vmctl_libvirt import xml_text
from vmctl_libvirt.libvirt_errors import is_code, library

NAMESPACE = "urn:x-vmctl:machine:1"
PREFIX = "vmctl"


class DomainMark(Struct, frozen=True):
    """What vmctl writes on each machine: its tag, and what only its maker knows."""

    tag: Tag
    ssh: Address | None
    """Where NIC 1 forwards SSH from; None = the guest has an address of its own."""
    mac: str
    """MAC address of NIC 1."""
    arch: str
    firmware: str
    run: str = ""
    """A random token that changes with every start."""
    ssh_port: int = DEFAULT_SSH_PORT
    """Where the guest's SSH server listens, in the guest."""
    resume: str = ""
    """Path of the memory that the next start goes on from (a snapshot was restored); "" = it boots."""

    def attributes(self) -> dict[str, str]:
        """The element's attributes, for the template."""
        return {
            "project": self.tag.project,
            "machine": self.tag.machine,
            "version": self.tag.version,
            "root": self.tag.root,
            "ssh": f"{self.ssh.host}:{self.ssh.port}" if self.ssh else "",
            "mac": self.mac,
            "arch": self.arch,
            "firmware": self.firmware,
            "run": self.run,
            **({} if self.ssh_port == DEFAULT_SSH_PORT else {"ssh_port": str(self.ssh_port)}),
            **({"resume": self.resume} if self.resume else {}),
        }


def parse(text: str) -> DomainMark | None:
    """The mark in an element as libvirt returns it; None when it lacks the parts that make it ours."""
    found = xml_text.parse(text).attrib
    if not (found.get("project") and found.get("machine")):
        return None
    host, _, port = found.get("ssh", "").rpartition(":")
    return DomainMark(
        tag=Tag(
            project=found["project"],
            machine=found["machine"],
            version=found.get("version", ""),
            root=found.get("root", ""),
        ),
        ssh=Address(host=host, port=int(port)) if host and port.isdigit() else None,
        mac=found.get("mac", ""),
        arch=found.get("arch", ""),
        firmware=found.get("firmware", ""),
        run=found.get("run", ""),
        ssh_port=int(number) if (number := found.get("ssh_port", "")).isdigit() else DEFAULT_SSH_PORT,
        resume=found.get("resume", ""),
    )


def read(domain: Any) -> DomainMark | None:
    """The mark of a domain; None = not ours."""
    libvirt = library()
    try:
        return parse(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, 0))
    except libvirt.libvirtError as error:
        if is_code(error, "VIR_ERR_NO_DOMAIN_METADATA"):
            return None
        raise


def write_run(domain: Any, mark: DomainMark, run: str, *, live: bool) -> None:
    """Give a domain a new run token: in its running copy (``live``) or in what the next start will copy."""
    write(domain, structs.replace(mark, run=run), live=live)


def write(domain: Any, mark: DomainMark, *, live: bool) -> None:
    """Replace a domain's mark: in its running copy (``live``) or in what the next start will copy."""
    libvirt = library()
    element = ET.Element("machine", mark.attributes())
    where = libvirt.VIR_DOMAIN_AFFECT_LIVE if live else libvirt.VIR_DOMAIN_AFFECT_CONFIG
    text = ET.tostring(element, encoding="unicode")
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, PREFIX, NAMESPACE, where)
