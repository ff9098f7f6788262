"""Which box, as a Vmfile writes it (``BoxRef``), and what everyone has to remember of one (``BoxFacts``)."""

from __future__ import annotations

from msgspec import Struct

DEFAULT_USER = "vmctl"
SEEDED_BY_VMCTL = "vmctl"
"""What a box says that takes its seed by vmctl's own unit (``BoxInfo.seeding``)."""


class BoxRef(Struct, frozen=True, kw_only=True):
    """Which box a machine starts from.

    ``address`` is a name in the store ("debian-12", "org/name"), an absolute path or a URL; ``constraint`` holds
    comma-joined version constraints ("" = newest).
    """

    address: str
    constraint: str = ""
    digest: str = ""
    """The very image that ``Vmfile.lock`` names; "" = the newest that fits. Not part of how it is written."""
    further: tuple[str, ...] | None = None
    """Digests of the other disks that the lock names; None = it does not say."""
    settings: str = ""
    """Digest of what the locked box says of its machines; "" = the lock does not say."""
    key: str = ""
    """File of the public key that must have signed it; "" = nobody need have. Not part of how it is written."""

    @property
    def is_url(self) -> bool:
        """Whether the address is fetched from elsewhere."""
        return "://" in self.address

    @property
    def is_path(self) -> bool:
        """Whether the address is a file on this host."""
        return self.address.startswith("/")

    def __str__(self) -> str:
        return f"{self.address}@{self.constraint}" if self.constraint else self.address


class BoxFacts(Struct, frozen=True, kw_only=True):
    """What a box is to the machines that are made of it; its file in the store, records and locks add their own."""

    name: str
    version: str
    digest: str
    """Of the image to boot from: lower-case hex SHA-256."""
    user: str = DEFAULT_USER
    """Login user unless the Vmfile names one."""
    firmware: str = "bios"
    cloud_init: bool = True
    """Whether its machines may read a seed, of whichever kind."""
