"""One box in the store: an image, and what is known of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from msgspec import Struct, convert, field, structs

from vmctl.box_facts import BoxFacts
from vmctl.boxes import box_names
from vmctl.boxes.versions import Version
from vmctl.driver import Disk
from vmctl.errors import VmctlError
from vmctl.store import files

SCHEMA = 1
"""Of ``box.json``; a vmctl that finds a higher number leaves the box alone."""
RECIPE = "recipe:"
"""What the source of a built box begins with."""
DIGEST = re.compile(r"[0-9a-f]{64}")
FORMAT = re.compile(r"[a-z0-9]+")


OWN, PUBLISHED = "own", "published"
SEEDED_BY_CLOUD_INIT, NOT_SEEDED = "cloud-init", "none"
OWN_KEY = "first_key"
BASE = "base"
"""Key of the provenance of a box that was packaged: the digest of the image that the machine was made of."""
PASSWORD = "first_password"  # noqa: S105  the name of a file
OCI = "oci"
"""Key of a box's provenance: {"manifest": DIGEST, "pushed": what who pushed it knew, "cloud_init": what they said}."""
PARENT = "parent"
"""Key beside these: the manifest of the box that it stands on."""


class BoxImage(Struct, frozen=True, kw_only=True):
    """One file of a box: a disk, or the root file system of a container."""

    digest: str
    """Lower-case hex SHA-256."""
    format: str
    """qcow2, raw or ``CONTAINER``."""
    virtual_size: int
    """Bytes that the guest sees."""
    size: int
    """Bytes of the file."""

    @classmethod
    def of(cls, path: Path, form: str, virtual_size: int) -> Self:
        """The image at ``path``, which is read from end to end for its digest.

        Raises:
            Interrupted: the user asked to stop.
        """
        from vmctl.boxes.checksum import digest_of

        return cls(digest=digest_of(path), format=form, virtual_size=virtual_size, size=path.stat().st_size)

    @property
    def image_name(self) -> str:
        """The image's file name, in the box's directory."""
        return f"{self.digest}.{self.format}"


class BoxInfo(BoxFacts, frozen=True, kw_only=True):
    """What ``box.json`` says; of the image to boot from, as ``BoxImage`` has it. ``BoxInfo`` + its place = ``Box``."""

    arch: str
    format: str
    virtual_size: int
    size: int
    source: str
    """Where it came from: a path, a URL (without a password) or "recipe:NAME"."""
    seeding: str = ""
    """What in the image reads it: ``SEEDED_BY_VMCTL``, the unit ``vmctl-seed``; ``SEEDED_BY_CLOUD_INIT``, which may
    turn out to be missing; or ``NOT_SEEDED``. "" = as ``cloud_init`` says."""
    first_key: str = ""
    """What lets in on a guest's first boot where the seed was not read: ``OWN`` = the file ``OWN_KEY`` beside the
    image, ``PUBLISHED`` = the key that Vagrant publishes for this; "" = nothing, the seed must be read."""
    first_password: bool = False
    """Whether a password lets in as well then: the private file ``PASSWORD`` beside the image."""
    further: tuple[BoxImage, ...] = ()
    """Its other disks, in order."""
    forms: tuple[BoxImage, ...] = ()
    """The same system in other formats: the root file system of ``CONTAINER`` beside a disk."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Keys of a Vmfile's machine that lie below what the Vmfile says: memory, cpus…"""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How it came to be: checksums that were verified, the file's stamp, recipe digest, packages…"""
    origin: str = ""
    """Whose name it is, for two boxes of one name are one only where they have one origin: a catalogue's address, a
    name that catalogues know, "recipe:NAME", the file or URL that it was called after; "" = the user's, who chose it
    (or an older vmctl's, which did not say)."""
    named: bool = True
    """Whether ``name`` is a name that a Vmfile may use; else it is a label, and the box is found by its source."""

    @property
    def line(self) -> tuple[str, str, bool, str]:
        """What its older and newer versions share."""
        return self.name, self.origin, self.named, self.arch

    @property
    def facts(self) -> dict[str, Any]:
        """``BoxFacts``, and the digests of the ``further`` disks: what is remembered outside the store."""
        known = {name: getattr(self, name) for name in BoxFacts.__struct_fields__}
        return {**known, "further": tuple(disk.digest for disk in self.further)}

    @property
    def settings(self) -> str:
        """Digest of what it says of its machines, besides the disks."""
        defining = [self.user, self.firmware, self.cloud_init, self.defaults]
        return hashlib.sha256(json.dumps(defining, sort_keys=True).encode()).hexdigest()

    def __post_init__(self) -> None:
        if not self.seeding or not self.cloud_init:
            structs.force_setattr(self, "seeding", SEEDED_BY_CLOUD_INIT if self.cloud_init else NOT_SEEDED)

    def to_json(self) -> dict[str, Any]:
        """For ``box.json``."""
        known = {name: getattr(self, name) for name in BoxInfo.__struct_fields__}
        lists = {name: [structs.asdict(disk) for disk in known[name]] for name in ("further", "forms")}
        return {"schema": SCHEMA, **known, **lists}

    @property
    def images(self) -> tuple[BoxImage, ...]:
        """All its disks, the one to boot from first."""
        return (BoxImage(**{name: getattr(self, name) for name in BoxImage.__struct_fields__}), *self.further)

    @property
    def files(self) -> tuple[BoxImage, ...]:
        """All that lies in its directory: its disks, and the same system in other formats."""
        return (*self.images, *self.forms)

    def has_form(self, formats: Sequence[str]) -> bool:
        """Whether machines can be made of it by a hypervisor that takes these formats; none given = any."""
        return not formats or any(one.format in formats for one in (self.images[0], *self.forms))


class Box(BoxInfo, frozen=True, kw_only=True):
    """A box that is in the store."""

    directory: Path

    @property
    def path(self) -> Path:
        """The image: read-only, never changed."""
        return self.directory / self.images[0].image_name

    def disk(self, formats: Sequence[str] = ()) -> Disk:
        """The images, as drivers want them: the disks, or the first form that is in one of ``formats`` if they are not.

        Raises:
            ValueError: it has none (``has_form``).
        """
        if not formats or self.format in formats:
            root, *further = (self._disk(one) for one in self.images)
            return structs.replace(root, further=tuple(further))
        found = [self._disk(one) for one in self.forms if one.format in formats]
        if not found:
            raise ValueError(f"{self} is in none of the formats {', '.join(formats)}")
        return found[0]

    def _disk(self, one: BoxImage) -> Disk:
        return Disk(
            path=self.directory / one.image_name,
            format=one.format,
            digest=one.digest,
            virtual_size=one.virtual_size,
            firmware=self.firmware,
            arch=self.arch,
        )

    def first_login_key(self) -> bytes | None:
        """The private key that lets in on a guest's first boot; None = the seed must be read."""
        if self.first_key == OWN:
            return (self.directory / OWN_KEY).read_bytes()
        return published_key() if self.first_key == PUBLISHED else None

    def first_login_password(self) -> str | None:
        """The password that lets in on a guest's first boot; None = there is none."""
        return (self.directory / PASSWORD).read_text(encoding="utf-8") if self.first_password else None

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.arch})"

    @property
    def order(self) -> Version:
        """What "newest" means."""
        return Version(self.version)

    @classmethod
    def from_json(cls, data: Any, directory: Path) -> Self:
        """What ``box.json`` in ``directory`` says.

        Raises:
            VmctlError: it is damaged, or written by a newer vmctl.
        """
        if isinstance(data, Mapping) and isinstance(data.get("schema"), int) and data["schema"] > SCHEMA:
            raise VmctlError(f"{directory} was written by a newer vmctl", hint="pip install --upgrade vmctl")
        try:
            info = convert(_carried_over(data), BoxInfo)
            Version(info.version)
            _check_images(info)
        except (ValueError, VmctlError) as error:  # msgspec's are ValueErrors
            raise files.damaged(directory / "box.json", str(error)) from error
        return cls(directory=directory, **{name: getattr(info, name) for name in BoxInfo.__struct_fields__})


def _check_images(info: BoxInfo) -> None:
    """See that images are named by digests: a box's files lie in its directory."""
    for image in info.files:
        if not DIGEST.fullmatch(image.digest) or not FORMAT.fullmatch(image.format):
            raise ValueError(f"{image.image_name!r} is not an image of a box")


def _carried_over(data: Any) -> Any:
    """What an older vmctl wrote, who did not tell the origin, as adding it now would tell; nothing is written."""
    if not isinstance(data, Mapping) or "origin" in data or not isinstance(data.get("provenance", {}), Mapping):
        return data
    source = str(data.get("source", ""))
    called_after = source.startswith(RECIPE) or data.get("name") == box_names.of_address(source)
    origin = data.get("provenance", {}).get("origin") or (source if called_after else "")
    return {**data, "origin": origin}


def published_key() -> bytes:
    """The private key that Vagrant publishes, and that its boxes take until it is replaced. No secret at all."""
    import vmctl_boxes

    return vmctl_boxes.PUBLISHED_KEY.read_bytes()


def published_line() -> str:
    """The public half, as a line for ``authorized_keys``; its comment is what Vagrant looks for to replace it."""
    import vmctl_boxes

    return vmctl_boxes.PUBLISHED_KEY.with_suffix(".pub").read_text(encoding="ascii").strip()


def manifest_of(box: BoxInfo) -> str:
    """The digest of the manifest that a box was pulled by; "" = it came otherwise."""
    return _recorded(box, "manifest")


def parent_of(box: BoxInfo) -> str:
    """The digest of the manifest of the box that it was pulled on; "" = it stands alone, or came otherwise."""
    return _recorded(box, PARENT)


def _recorded(box: BoxInfo, key: str) -> str:
    known = box.provenance.get(OCI)
    return str(known.get(key, "")) if isinstance(known, dict) else ""
