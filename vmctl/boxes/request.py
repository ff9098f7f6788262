"""What is said of a box before it is in the store, and what a user asks for who wants it there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vmctl.boxes import box_names, vagrant_box
from vmctl.boxes.address import WEB, plain_source
from vmctl.boxes.box import Box
from vmctl.boxes.checksum import Checksum
from vmctl.boxes.versions import Version
from vmctl.boxes.web import Access
from vmctl.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What somebody says of a box: the user, the catalogue that offers it, the box itself. "" and None = nothing."""

    name: str = ""
    arch: str = ""
    checksum: Checksum | None = None
    user: str = ""
    firmware: str = ""
    password: str = field(default="", repr=False)
    """What lets in on a guest's first boot."""

    def over(self, other: Claims) -> Claims:
        """Each claim, from ``other`` where this says nothing."""
        return Claims(**{one.name: getattr(self, one.name) or getattr(other, one.name) for one in fields(Claims)})

    @property
    def claims(self) -> dict[str, Any]:
        """By field, for another one that says the same."""
        return {one.name: getattr(self, one.name) for one in fields(Claims)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Description(Claims):
    """What the user says of a box, and how it is got at."""

    named: bool = True
    """Whether Vmfiles may use the name: somebody asked for this box, not for something at an address."""
    cloud_init: bool = True
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
    key: Path | None = None
    """The public key that must have signed the image of a registry."""
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

    def check(self) -> None:
        """See that it makes sense, before anything is fetched.

        Raises:
            UsageError: it does not.
        """
        if self.name:
            box_names.check(self.name)
        if self.version:
            Version(self.version)
        if self.arch:
            box_names.check_architecture(self.arch)
        if self.user:
            box_names.check_user(self.user)
        source = plain_source(self.address)
        if "://" not in source and vagrant_box.is_vagrant_box(Path(source)):
            if self.checksum is not None:
                raise UsageError(f"{source} is a directory, which has no checksum", hint="vmctl box add --help")
            return
        if "://" not in source and not Path(source).is_file():
            what = f"{source} is not a file" if Path(source).exists() else f"there is no file {source}"
            raise UsageError(what, hint="vmctl box add --help")
        if "://" in source and source.partition("://")[0] not in WEB:
            raise UsageError(f"boxes come from files and http(s) URLs, not from {source}", hint="vmctl box add --help")
