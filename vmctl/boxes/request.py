"""What a user asks for who wants a box in the store, and what they say of it. "" and None = what the box says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmctl.boxes.box import Box
from vmctl.boxes.checksum import Checksum
from vmctl.boxes.web import Access


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What the user says of a box, and how it is got at."""

    name: str = ""
    """"" = from the address."""
    named: bool = True
    """Whether Vmfiles may use the name: somebody asked for this box, not for something at an address."""
    arch: str = ""
    """"" = what the box says, else this host's."""
    checksum: Checksum | None = None
    user: str = ""
    """"" = what the box says, else ``DEFAULT_USER``."""
    firmware: str = ""
    """"" = what the box says, else bios."""
    cloud_init: bool = True
    password: str = field(default="", repr=False)
    """What lets in on a guest's first boot."""
    access: Access = field(default_factory=Access)

    def agrees(self, box: Box) -> bool:
        """Whether a box is as the user says it is."""
        return (
            self.user in ("", box.user)
            and self.firmware in ("", box.firmware)
            and self.cloud_init == box.cloud_init
            and self.password in ("", box.first_login_password())
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Order(Description):
    """What the user wants, from any kind of address."""

    address: str
    """A name, an absolute path or a URL (``vmctl.boxes.resolving``)."""
    version: str = ""
    """For a catalogue, a constraint; for a plain file, what to number it."""
    provider: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request(Description):
    """One file to add."""

    address: str
    """Absolute path, file:// or http(s) URL."""
    version: str = ""
    """"" = numbered by the time of adding; the same image is not added twice."""
    origin: str = ""
    """What to ask for newer versions, and whose name it is; see ``resolving.Choice``."""
    stamps: Mapping[str, str] = field(default_factory=dict)
    """The stamps of files besides the box's own that lead to it: a catalogue's."""
