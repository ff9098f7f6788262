"""From what came in (a .box, an OVA, an image in any format) to one plain image, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from vmctl.boxes import archive, foreign, image, ovf, streams, vagrant_box
from vmctl.boxes.box import BASE, OWN, OWN_KEY, PUBLISHED
from vmctl.boxes.checksum import digest_of
from vmctl.boxes.request import Claims
from vmctl.boxes.space import Room
from vmctl.boxes.vagrant_box import BadBox, VagrantBox
from vmctl.events import Report, Warned
from vmctl.spec import MIB
from vmctl.store import files

UNREAD_SHOWN = 5
VIRTUALBOX = "virtualbox"
CONFIG_DRIVES = "config drives left out"
"""What `vmctl box list -i` calls them."""
LONGEST_KEY = 64 * 1024
PRIVATE_KEY = b"PRIVATE KEY-----"


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared(Claims):
    """What a box says of itself, below what the user says; "" and empty = nothing."""

    first_key: str = ""
    """As ``BoxInfo.first_key``; the key itself is ``OWN_KEY`` in the draft."""
    seeding: str = ""
    """As ``BoxInfo.seeding``."""
    further: tuple[Path, ...] = ()
    """Its other disks (qcow2 or raw), in the draft."""
    container: int = 0
    """The image is a root file system, for disks of so many bytes; 0 = it is a disk."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def unpack(packed: Path | BinaryIO, draft: Path, *, name: str, report: Report) -> Declared:
    """Unpack an archive in ``draft``, make its disks plain (the first is ``draft / "image"``), tell what it says.

    Raises:
        BadArchive, BadBox, NotAnImage: it is not a box that vmctl can use.
        VmctlError: the disk is full, or qemu-img is missing.
    """
    content = draft / "content"
    found = archive.unpack(packed, content, name=name)
    root = _top(content)
    if vagrant_box.is_vagrant_box(root):
        declared = _read(root, draft, name, report)
    else:
        disk, declared = _other(content, found, name)
        _tell_config_drives(declared.provenance.get(CONFIG_DRIVES, ()), name, report)
        plain(disk, draft / "image", name=name)
    files.remove_tree(content)
    return declared


def copy(directory: Path, draft: Path, *, name: str, report: Report, room: Room) -> Declared:
    """As ``unpack``, of a Vagrant box that lies unpacked in a directory, as Vagrant keeps it; that stays as it is.

    Raises:
        BadBox, NotAnImage: it is not a box that vmctl can use.
        NoSpace: it does not fit.
    """
    content = draft / "content"
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BadBox(name, f"it holds {path.relative_to(directory)}, which is neither a file nor a directory")
        if path.is_file():
            target = content / path.relative_to(directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, target.open("wb") as out:
                streams.copy(source.read, out, room=room)
    declared = _read(content, draft, name, report)
    files.remove_tree(content)
    return declared


def _read(root: Path, draft: Path, name: str, report: Report) -> Declared:
    """What an unpacked Vagrant box says; its disks and its key move into the draft."""
    box = vagrant_box.read(root, name=name)
    further = _disks(box.disks, draft, name)
    _tell_unused(box, name, report)
    _tell_disks(box, name, report)
    return replace(_vagrant(box), first_key=_first_key(box, draft, name), further=further)


def _top(content: Path) -> Path:
    """Where the box is: some makers pack the directory that holds its files."""
    (first, *others) = content.iterdir()
    inside = first.is_dir() and not others and vagrant_box.is_vagrant_box(first)
    return first if inside else content


def plain(source: Path, target: Path, *, name: str) -> None:
    """Move the image to ``target``, converted to qcow2 where it is in a foreign format.

    Raises:
        NotAnImage: it is damaged, or refers to other files.
    """
    if foreign.sniff(source):
        foreign.to_qcow2(source, target, name=name)
        source.unlink()
    else:
        source.rename(target)


def converted(draft: Path, name: str, digest: str) -> str:
    """Make a foreign image in the draft a qcow2; the digest of what is there then."""
    if not foreign.sniff(draft / "image"):
        return digest
    (draft / "image").rename(draft / "foreign")
    plain(draft / "foreign", draft / "image", name=name)
    return digest_of(draft / "image")


def _only(disks: tuple[Path, ...], name: str) -> Path:
    if len(disks) > 1:
        raise BadBox(name, f"it has {len(disks)} disks; several are supported in boxes for Vagrant's libvirt provider")
    return disks[0]


def _disks(disks: tuple[Path, ...], draft: Path, name: str) -> tuple[Path, ...]:
    """Make a box's disks plain in the draft; those besides the first."""
    further = tuple(draft / f"disk-{number}" for number in range(2, len(disks) + 1))
    for source, target in zip(disks, (draft / "image", *further), strict=True):
        plain(source, target, name=name)
    for path in further:
        image.inspect(path, name, boots=False)
    return further


def _first_key(box: VagrantBox, draft: Path, name: str) -> str:
    if box.key is None:
        return PUBLISHED
    if box.key.stat().st_size > LONGEST_KEY or PRIVATE_KEY not in box.key.read_bytes():
        raise BadBox(name, f"{box.key.name} in it is not a private SSH key")
    box.key.rename(draft / OWN_KEY)
    return OWN


def _tell_unused(box: VagrantBox, name: str, report: Report) -> None:
    """Say what the box asks for in vain."""
    if box.unread:
        shown = "; ".join(box.unread[:UNREAD_SHOWN])
        more = f" (and {len(box.unread) - UNREAD_SHOWN} more lines)" if len(box.unread) > UNREAD_SHOWN else ""
        report(Warned(text=f"{name}: its Vagrantfile is not run; this in it has no effect: {shown}{more}"))


def _tell_disks(box: VagrantBox, name: str, report: Report) -> None:
    """Say which disks of the box its machines do not get, or not from the provider that it was made for."""
    _tell_config_drives(box.config_drives, name, report)
    if box.provider == VIRTUALBOX and len(box.disks) > 1:
        text = f"{name}: it has {len(box.disks)} disks, so only the provider libvirt can use it"
        report(Warned(text=text, hint="vmctl up --provider libvirt"))


def _tell_config_drives(drives: Sequence[str], name: str, report: Report) -> None:
    for drive in drives:
        report(Warned(text=f"{name}: its config drive {drive} is left out: machines have a seed of their own"))


def _vagrant(box: VagrantBox) -> Declared:
    facts = {"provider": box.provider, "mac": box.mac, "info": dict(box.info)}
    return Declared(
        user=box.user,
        arch=box.arch or "",
        firmware=box.firmware,
        password=box.password or "",
        seeding=box.seeding,
        container=box.size,
        defaults=_defaults(box.cpus, box.memory, box.controller)
        | ({} if box.share_project else {"synced_folders": []})
        | ({"ssh_port": box.ssh_port} if box.ssh_port else {}),
        provenance={
            "vagrant": {key: value for key, value in facts.items() if value},
            **_left_out(box.config_drives),
            **({BASE: box.base} if box.base else {}),
        },
    )


def _left_out(drives: Sequence[str]) -> dict[str, Any]:
    return {CONFIG_DRIVES: list(drives)} if drives else {}


def _defaults(cpus: int | None, memory: int | None, controller: str) -> dict[str, Any]:
    """What the guest was made for. Its drivers may be those of its own controller only, in its initial RAM disk."""
    defaults: dict[str, Any] = {"cpus": cpus} if cpus else {}
    defaults |= {"virtualbox": {"controller": controller}} if controller else {}
    return defaults | ({"memory": f"{memory // MIB}MiB"} if memory and memory >= MIB else {})


def _other(root: Path, found: tuple[Path, ...], name: str) -> tuple[Path, Declared]:
    """An OVA, or an image that somebody put into an archive."""
    descriptors = [path for path in found if path.suffix.lower() == ".ovf"]
    if len(descriptors) == 1:
        return _appliance(root, descriptors[0], found, name)
    if len(found) == 1:
        return root / found[0], Declared()
    raise BadBox(name, f"it is neither a Vagrant box nor an OVA: it holds {', '.join(sorted(map(str, found)))[:200]}")


def _appliance(root: Path, descriptor: Path, found: tuple[Path, ...], name: str) -> tuple[Path, Declared]:
    try:
        described = ovf.read(root / descriptor)
    except ovf.BadOvf as error:
        raise BadBox(name, str(error)) from error
    disks = [descriptor.parent / disk for disk in described.disks]
    if absent := [disk for disk in disks if disk not in found]:
        raise BadBox(name, f"its descriptor names the disk {str(absent[0])!r}, which is not in it")
    disk = _only(tuple(root / disk for disk in disks), name)
    defaults = _defaults(described.cpus, described.memory, described.controller)
    provenance = _left_out(described.config_drives)
    return disk, Declared(firmware=described.firmware, defaults=defaults, provenance=provenance)
