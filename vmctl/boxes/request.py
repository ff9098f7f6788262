"""What a user asks for who wants a box in the store, and what they say of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmctl.boxes.box import Box
from vmctl.boxes.checksum import Checksum
from vmctl.boxes.web import Access


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to add, and what the user says of it."""

    address: str
    """Absolute path, file:// or http(s) URL."""
    name: str = ""
    """"" = from the address."""
    version: str = ""
    """"" = numbered by the time of adding; the same image is not added twice."""
    arch: str = ""
    """"" = what the box says, else this host's."""
    checksum: Checksum | None = None
    user: str = ""
    """"" = what the box says, else ``DEFAULT_USER``."""
    firmware: str = ""
    """"" = what the box says, else bios."""
    cloud_init: bool = True
    password: str = field(default="", repr=False)
    """What lets in on a guest's first boot; "" = what the box says."""
    origin: str = ""
    """What to ask for newer versions; see ``resolving.Choice``."""
    access: Access = field(default_factory=Access)

    def agrees(self, box: Box) -> bool:
        """Whether a box is as the user says it is."""
        return (
            self.user in ("", box.user)
            and self.firmware in ("", box.firmware)
            and self.cloud_init == box.cloud_init
            and self.password in ("", box.first_login_password())
        )
