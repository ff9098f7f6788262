"""What a box is in a registry: an image manifest with a config of ours, a layer per window, and an index of hosts.

    artifactType  application/vnd.vmctl.box.v1
    config        application/vnd.vmctl.box.config.v1+json   what ``box.json`` says, and each disk's size
    layers        application/vnd.vmctl.disk.window.v1+zstd  annotations: vmctl.disk, vmctl.window, vmctl.clusters
                  application/vnd.vmctl.disk.delta.v1+zstd   what changed in one (``layers``, ``delta``)
    annotations   vmctl.parent                               the manifest of the box that it stands on

A registry is a stranger: whatever it sends is checked here before anything is done with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, ValidationError, convert, field, to_builtins

from vmctl import json_text
from vmctl.boxes import box_names
from vmctl.boxes.image import LARGEST
from vmctl.boxes.oci import window_layers
from vmctl.boxes.oci.qcow2_layout import CLUSTER
from vmctl.boxes.oci.reference import DIGEST
from vmctl.boxes.oci.registry_client import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, Blob
from vmctl.boxes.oci.window_layers import Senseless, Stacks, WindowLayer, blob, described, stacked
from vmctl.boxes.oci.windows import MOST
from vmctl.boxes.versions import Version
from vmctl.driver import CONTAINER
from vmctl.errors import UsageError

BOX = "application/vnd.vmctl.box.v1"
CONFIG = "application/vnd.vmctl.box.config.v1+json"
PARENT_KEY, BASE_KEY = "vmctl.parent", "vmctl.parent.disk"
TITLE, VERSION, CREATED = (f"org.opencontainers.image.{one}" for one in ("title", "version", "created"))
SCHEMA = 1
MOST_DISKS = 8
MOST_LAYERS = 8 * MOST
LONGEST_CONFIG = 1024**2
LONGEST_KEY = 64 * 1024
ARCHES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
"""Go's words for architectures, which registries use."""
_FORMS = [[""] * count + forms for count in range(1, MOST_DISKS + 1) for forms in ([], [CONTAINER])] + [[CONTAINER]]
SETTINGS = re.compile(r"[A-Za-z0-9_-]{1,40}")
HIGHEST = 65535
MEMORY = re.compile(r"[0-9]{1,8}MiB")
WORD = re.compile(r"[A-Za-z0-9._+-]{0,64}")


class DiskInfo(Struct, frozen=True, kw_only=True):
    """One disk, in the config, or the same system in another format, which travels as a disk's bytes do."""

    virtual_size: int
    window: int
    form: str = ""
    """The other format: ``CONTAINER``; "" = it is a disk. Those come last."""
    machine: int = 0
    """Of a root file system: the bytes of the disks of machines, where their Vmfile says nothing; 0 = not told."""


class Config(Struct, frozen=True, kw_only=True):
    """What the config says: as ``BoxInfo``, without what is the store's own business."""

    schema: int
    name: str
    version: str
    arch: str
    user: str
    disks: tuple[DiskInfo, ...]
    firmware: str = "bios"
    cloud_init: bool = True
    seeding: str = ""
    first_key: str = ""
    key: str = ""
    """The private key of the first login, base64, where ``first_key`` says so: as public as the box itself."""
    password: str = ""
    """Of the first login; as public as the box itself."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key_bytes(self) -> bytes:
        """The private key."""
        return base64.b64decode(self.key)


class Manifest(Struct, frozen=True, kw_only=True):
    """A box of ours."""

    config: Blob
    layers: tuple[WindowLayer, ...]
    stacks: Stacks
    parent: str = ""
    """Digest of the manifest of the box that it stands on; "" = it stands alone."""
    base: str = ""
    """Digest of that box's first disk, as it lies in a store."""


class IndexEntry(Struct, frozen=True, kw_only=True):
    """One architecture of an index."""

    blob: Blob
    arch: str
    kind: str


def dump(value: Any) -> bytes:
    """As it is pushed: the same value is the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def config_bytes(config: Config) -> bytes:
    """The config, with what other tools look for in one."""
    known = to_builtins(config, order="sorted")
    return dump({**known, "architecture": ARCHES.get(config.arch, config.arch), "os": "linux"})


def manifest_bytes(
    config: Config, blob: Blob, layers: Sequence[WindowLayer], *, created: str, parent: str = "", base: str = ""
) -> bytes:  # fmt: skip
    """The manifest of a box."""
    stands = {PARENT_KEY: parent, BASE_KEY: base} if parent else {}
    return dump({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BOX,
        "config": {"mediaType": CONFIG, "digest": blob.digest, "size": blob.size},
        "layers": [described(one) for one in layers],
        "annotations": {TITLE: config.name, VERSION: config.version, CREATED: created, **stands},
    })  # fmt: skip


def index_bytes(entries: Sequence[IndexEntry]) -> bytes:
    """The index of a tag."""
    described = [
        {
            "mediaType": MANIFEST, "artifactType": BOX, "digest": one.blob.digest, "size": one.blob.size,
            "platform": {"architecture": ARCHES.get(one.arch, one.arch), "os": "linux"},
        }
        for one in sorted(entries, key=lambda entry: entry.arch)
    ]  # fmt: skip
    return dump({"schemaVersion": 2, "mediaType": INDEX, "artifactType": BOX, "manifests": described})


def is_box(document: Mapping[str, Any]) -> bool:
    """Whether a manifest or index is one of ours."""
    config = document.get("config")
    kind = config.get("mediaType") if isinstance(config, dict) else ""
    return document.get("artifactType") == BOX or kind == CONFIG


def parsed(data: bytes) -> Mapping[str, Any]:
    """A manifest or index.

    Raises:
        Senseless: it is neither.
    """
    try:
        value = json_text.loads(data)
    except ValueError as error:
        raise Senseless(f"its manifest is not valid JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("manifests", value.get("layers")), list):
        raise Senseless("its manifest is neither an image's nor an index")
    return value


def entries(document: Mapping[str, Any]) -> tuple[IndexEntry, ...]:
    """What an index leads to; attestations and the like are not an architecture of Linux."""
    found = []
    for one in document["manifests"][:MOST]:
        platform = one.get("platform") if isinstance(one, dict) else None
        known = platform if isinstance(platform, dict) else {}
        arch = known.get("architecture")
        if known.get("os") == "linux" and isinstance(arch, str) and one.get("mediaType") in (MANIFEST, DOCKER_MANIFEST):
            words = {go: kernel for kernel, go in ARCHES.items()}
            found.append(IndexEntry(blob=blob(one), arch=words.get(arch, arch), kind=str(one["mediaType"])))
    return tuple(found)


def is_index(document: Mapping[str, Any], kind: str) -> bool:
    """Whether a document is an index."""
    return "manifests" in document and kind in (INDEX, DOCKER_INDEX, "", "application/json")


def manifest(document: Mapping[str, Any]) -> Manifest:
    """The manifest of a box.

    Raises:
        Senseless: it is damaged, or asks for more than a box can need.
    """
    layers = document.get("layers")
    if not isinstance(layers, list) or not layers or len(layers) > MOST_LAYERS:
        raise Senseless(f"a box has from 1 to {MOST_LAYERS} layers")
    read = tuple(map(window_layers.read, layers))
    notes = document.get("annotations")
    known = notes if isinstance(notes, dict) else {}
    parent, base = (str(known.get(key, "")) for key in (PARENT_KEY, BASE_KEY))
    if parent and not (DIGEST.fullmatch(parent) and DIGEST.fullmatch(f"sha256:{base}")):
        raise Senseless(f"{parent[:100]!r} is not the digest of a parent")
    return Manifest(config=blob(document.get("config")), layers=read, stacks=stacked(read), parent=parent, base=base)


def config(data: bytes) -> Config:
    """What the config says.

    Raises:
        Senseless: it is damaged, hostile, or a newer vmctl's.
    """
    try:
        value = json_text.loads(data)
        if isinstance(value, dict) and isinstance(value.get("schema"), int) and value["schema"] > SCHEMA:
            raise Senseless("a newer vmctl pushed it; pip install --upgrade vmctl")
        found = convert(value, Config)
        Version(found.version)
        box_names.check_user(found.user)
    except (ValidationError, ValueError, UsageError) as error:
        raise Senseless(f"invalid config: {getattr(error, 'brief', error)}") from error
    _check(found)
    return found


def _check(found: Config) -> None:
    problems = (
        (not box_names.ARCH.fullmatch(found.arch), f"{found.arch[:100]!r} is not an architecture"),
        (found.firmware not in ("bios", "uefi"), f"its firmware is {found.firmware[:100]!r}"),
        (not WORD.fullmatch(found.seeding), f"its seeding is {found.seeding[:100]!r}"),
        (found.first_key not in ("", "own", "published"), f"its first key is {found.first_key[:100]!r}"),
        ((found.first_key == "own") != bool(found.key), "it has no key, or one that it does not declare"),
        (len(found.password) > LONGEST_KEY or "\n" in found.password, "its password is not one line"),
        (not 0 < len(found.disks) <= MOST_DISKS, f"it has {len(found.disks)} disks; 1 to {MOST_DISKS} are supported"),
        (not all(map(_is_disk, found.disks)), "the size of a disk is invalid"),
        ([one.form for one in found.disks] not in _FORMS, "it has other forms that this vmctl does not know"),
        (not _are_settings(found.defaults), "it sets for its machines what no box may set"),
    )
    for bad, why in problems:
        if bad:
            raise Senseless(why)
    try:
        key = base64.b64decode(found.key, validate=True)
    except binascii.Error:
        key = b""
    if found.key and (len(key) > LONGEST_KEY or b"PRIVATE KEY-----" not in key):
        raise Senseless("its key is not a private SSH key")


def _is_disk(disk: DiskInfo) -> bool:
    whole = disk.virtual_size % 512 == 0 and disk.window % CLUSTER == 0
    whole = whole and 0 <= disk.machine <= LARGEST
    return whole and 0 < disk.virtual_size <= LARGEST and 0 < disk.window <= LARGEST and (
        -(-disk.virtual_size // disk.window) <= MOST
    )  # fmt: skip


def _are_settings(defaults: Mapping[str, Any]) -> bool:
    """Whether these are keys that a box may set below the Vmfile's; others could run something on the host."""
    virtualbox = defaults.get("virtualbox", {})
    return (
        defaults.keys() <= {"cpus", "memory", "virtualbox", "synced_folders", "ssh_port"}
        and all(
            isinstance(defaults.get(key, 1), int) and 0 < defaults.get(key, 1) <= HIGHEST
            for key in ("cpus", "ssh_port")
        )
        and bool(MEMORY.fullmatch(str(defaults.get("memory", "1MiB"))))
        and defaults.get("synced_folders", []) == []
        and isinstance(virtualbox, dict)
        and virtualbox.keys() <= {"controller"}
        and bool(SETTINGS.fullmatch(str(virtualbox.get("controller", "x"))))
    )
