"""The seed: a small ISO image (label ``cidata``) that tells a guest who and what it is.

It holds everything twice: NoCloud's three files for boxes with cloud-init, and ready-made files for boxes of vmctl's
own, which only copy them. The guest reads it anew at every boot: network and hostname follow the Vmfile with
``vmctl reload``; user and keys are taken again when the instance id changes, which is made of exactly those values.
"""

from __future__ import annotations

import ipaddress
import secrets
from pathlib import Path

from msgspec import structs

from vmctl import iso
from vmctl.seed import nocloud, ready_made
from vmctl.seed.guest_identity import GuestIdentity
from vmctl.store import files

__all__ = ["LABEL", "GuestIdentity", "contents", "has_name_server", "read", "write"]

RESOLV_CONF = Path("/etc/resolv.conf")
LABEL = "cidata"
PER_WRITING = {ready_made.RANDOM, f"{ready_made.DIRECTORY}/{ready_made.SUMS}"}
"""What differs in every seed, whatever it says."""


def write(path: Path, identity: GuestIdentity, *, resolv_conf: Path = RESOLV_CONF) -> bool:
    """Write the seed of one machine; an image that says the same already is left alone.

    Args:
        path: the ISO image; private (0600), for it holds the guest's host key.
        identity: what it says.
        resolv_conf: the host's; without a name server there, the guest gets none to wait for.

    Returns:
        Whether the image changed.

    Raises:
        UsageError: user, key or hostname hold what cannot be one.
    """
    identity.check()
    content = contents(structs.replace(identity, dns=has_name_server(resolv_conf)))
    if files.exists(path) and _lasting(iso.read(path)) == _lasting(content):
        return False
    files.write(path, iso.image(LABEL, content))
    return True


def contents(identity: GuestIdentity) -> dict[str, bytes]:
    """The files of a seed, by path."""
    return {**nocloud.files(identity), **ready_made.files(identity, secrets.token_bytes(ready_made.RANDOM_BYTES))}


def _lasting(content: dict[str, bytes]) -> dict[str, bytes]:
    """What of a seed says something of the machine."""
    return {name: data for name, data in content.items() if name not in PER_WRITING}


def read(path: Path) -> dict[str, str]:
    """What a seed says, by file; empty where the image is damaged or no seed of ours."""
    found = {name: data for name, data in iso.read(path).items() if name not in PER_WRITING}
    try:
        return {name: data.decode() for name, data in found.items()}
    except UnicodeDecodeError:
        return {}


def has_name_server(resolv_conf: Path) -> bool:
    """Whether the host can resolve names, as far as its resolv.conf tells.

    NIC 1's name server is the host's own, passed on: where the host has none, each lookup in the guest would wait.
    """
    try:
        lines = resolv_conf.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    words = [line.split() for line in lines]
    return any(len(entry) > 1 and entry[0] == "nameserver" and _is_address(entry[1]) for entry in words)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
