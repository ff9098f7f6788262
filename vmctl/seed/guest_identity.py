"""What a guest is to be, as both kinds of seed are told it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from msgspec import Struct

from vmctl.driver import Definition, Features
from vmctl.errors import UsageError
from vmctl.key_pairs import ensure

USER = re.compile(r"[a-z_][A-Za-z0-9_.-]{0,31}")
HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class GuestIdentity(Struct, frozen=True, kw_only=True):
    """One machine's identity and network."""

    definition: Definition
    features: Features
    """What the driver says of NIC 1."""
    user: str
    """The login user that the guest makes, with passwordless sudo and a locked password."""
    public_key: str
    """The key that may log in as ``user``, one line."""
    host_key: Path
    """The guest's private SSH host key (ed25519)."""
    uid: int | None = None
    """Number of ``user``; None = the guest's choice. Without effect where the box has the user already."""
    gid: int | None = None
    """Number of the user's primary group; None = a group of its own, with the uid's number where it is free."""
    first_boots: int = 0
    """How often it was started again before its first boot was known to be on its disk; a new number makes the guest do
    its per-instance part again."""
    dns: bool = True
    """Whether the host has a name server to pass on."""

    @property
    def hostname(self) -> str:
        """Its whole name."""
        return self.definition.spec.hostname or self.definition.spec.name

    @property
    def short_name(self) -> str:
        """Its name up to the first dot."""
        return self.hostname.partition(".")[0]

    @property
    def name_server(self) -> str:
        """What NIC 1 has names resolved by, where its address is static; "" = nothing."""
        return self.features.nic1_dns if self.dns and self.features.nic1_address else ""

    @property
    def instance(self) -> str:
        """The instance id: a new one makes the guest take its user and keys again.

        It holds all that this part depends on, so a disk that was copied into another machine (a box packaged from
        this one) gets that machine's user and keys, and a restart of the same machine costs nothing.
        """
        values = (self.user, self.public_key, ensure(self.host_key), self.uid, self.gid, self.first_boots)
        digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()
        tag = self.definition.tag
        return f"{tag.machine}-{tag.project[:8]}-{digest[:16]}"

    def check(self) -> None:
        """Refuse what would mean something else in a file of the guest than a name or a key.

        Raises:
            UsageError: a box or the Vmfile says such a thing.
        """
        right = {
            "login user": (self.user, USER.fullmatch(self.user)),
            "hostname": (self.hostname, HOSTNAME.fullmatch(self.hostname)),
            "public key": (self.public_key, self.public_key.isprintable()),
        }
        for what, (value, holds) in right.items():
            if not holds:
                raise UsageError(f"{self.definition.tag.machine}: invalid {what} {value!r}", hint="vmctl validate")
