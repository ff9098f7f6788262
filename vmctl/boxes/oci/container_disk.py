"""Boxes out of container images: disks as KubeVirt has them, and root file systems.

Makers of cloud images push ``/disk/*.qcow2`` in a layer; its format is
https://kubevirt.io/user-guide/storage/disks_and_volumes/#containerdisk. Any other image is a root file system in tar
layers (``root_image``), which Incus and LXD start where it has an init system.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec import structs

from vmctl import json_text
from vmctl.box_facts import DEFAULT_USER
from vmctl.boxes import box_names, contents
from vmctl.boxes.adding import UNNUMBERED
from vmctl.boxes.archive import BadArchive
from vmctl.boxes.box import PUBLISHED, Box, BoxImage
from vmctl.boxes.image import LARGEST
from vmctl.boxes.oci import artifact
from vmctl.boxes.oci.artifact import Config, DiskInfo
from vmctl.boxes.oci.assembly import STEP
from vmctl.boxes.oci.pull import Pulling
from vmctl.boxes.oci.qcow2_layout import CLUSTER
from vmctl.boxes.oci.registry_client import Blob
from vmctl.boxes.oci.root_image import RootImage
from vmctl.boxes.oci.window_layers import Senseless, blob
from vmctl.boxes.space import NoSpace, Room
from vmctl.boxes.vagrant_box import DEFAULT_SIZE, BadBox
from vmctl.boxes.vagrant_box import DEFAULT_USER as VAGRANT_USER
from vmctl.boxes.versions import Version
from vmctl.driver import CONTAINER
from vmctl.errors import Interrupted, UsageError
from vmctl.events import Progress
from vmctl.store import files

LAYERS = tuple(
    f"application/vnd.{kind}{packed}"
    for kind in ("oci.image.layer.v1.tar", "docker.image.rootfs.diff.tar")
    for packed in ("", "+gzip", ".gzip", "+zstd")
)
MOST_LAYERS = 128
PROGRAMS = ("Cmd", "Entrypoint")
NOT_A_BOX = "it is a container image without layers; vmctl takes boxes, disks as KubeVirt keeps them, and whole systems"


class _NoDisk(Exception):
    """A layer holds no disk; the image may be a root file system."""


class ContainerDisk(Pulling):
    """The disk, or the root file system, of a container image on its way into the store."""

    is_program = False
    """Whether it says what runs in a container: then it is no disk."""

    def run(self) -> tuple[Box, bool]:
        """Take it in."""
        layers = self._layers()
        parts = {one.digest: self._part(one) for one in layers}
        self._total = sum({one.digest: one.size for one in layers}.values())
        files.make_directory(self.store.home.downloads)
        if not self.is_program:
            largest = max(layers, key=lambda one: one.size)
            self._fetch([largest], parts)
            with suppress(_NoDisk), _used(parts.values()):
                return self._disk(parts[largest.digest])
        self._fetch(layers, parts)
        with _used(parts.values()):
            return self._root([parts[one.digest] for one in layers])

    def _part(self, layer: Blob) -> Path:
        """Where a layer comes; of this image alone, for another one may be on its way with the same layer."""
        name = hashlib.sha256(f"{self.digest} {layer.digest}".encode()).hexdigest()[:40]
        return self.store.home.downloads / f"oci-{name}.part"

    def _fetch(self, layers: Sequence[Blob], parts: Mapping[str, Path]) -> None:
        room = Room(self.store.home.downloads, f"to pull {self.reference}").take
        for one in layers:
            self.registry.fetch(one, parts[one.digest], on_bytes=self._tell, room=room)

    def _disk(self, part: Path) -> tuple[Box, bool]:
        with self.draft() as draft, files.open_to_read(part) as packed:
            try:
                declared = contents.unpack(packed, draft, name=str(self.reference), report=self.store.report)
            except (BadArchive, BadBox) as error:
                raise _NoDisk from error
            if declared.first_key or declared.further:
                raise Senseless("its layer holds a Vagrant box, which is added as a file")
            return self.take_in(draft, [draft / "image"], moved=lambda: None)

    def _root(self, layers: Sequence[Path]) -> tuple[Box, bool]:
        """The root file system that the layers make."""
        with self.draft() as draft:
            made = RootImage(layers, draft, Room(draft, f"to unpack {self.reference}"))
            made.write(draft / "image", name=self.name, arch=self.config.arch)
            disk = structs.replace(self.config.disks[0], form=CONTAINER)
            self.config = structs.replace(
                self.config, disks=(disk,), seeding=made.seeding, cloud_init=bool(made.seeding),
                user=self.config.user if made.seeding else VAGRANT_USER, first_key="" if made.seeding else PUBLISHED,
            )  # fmt: skip
            return self.take_in(draft, [draft / "image"], moved=lambda: None)

    def _placed(self, path: Path, directory: Path, number: int) -> BoxImage:
        if not self.config.disks[0].form:
            return super()._placed(path, directory, number)
        found = BoxImage.of(path, CONTAINER, DEFAULT_SIZE)
        path.rename(directory / found.image_name)
        return found

    def _config(self) -> Config:
        """What can be known of the box: by its tag, its repository and the image's own config."""
        settings = self._image()
        words = {go: kernel for kernel, go in artifact.ARCHES.items()}
        arch = str(settings.get("architecture"))
        if not box_names.ARCH.fullmatch(arch):
            raise Senseless(f"{arch[:100]!r} is not an architecture")
        return Config(
            schema=artifact.SCHEMA, name="", version=self._version(), arch=words.get(arch, arch),
            user=DEFAULT_USER if self.order.cloud_init else VAGRANT_USER,
            disks=(DiskInfo(virtual_size=512, window=CLUSTER),),
        )  # fmt: skip

    def _image(self) -> Mapping[str, Any]:
        data = self.registry.read(blob(self.document.get("config")), artifact.LONGEST_CONFIG, "the config")
        try:
            found = json_text.loads(data)
        except ValueError as error:
            raise Senseless(f"invalid config: {error}") from error
        if not isinstance(found, dict):
            raise Senseless("invalid config: it is not a JSON object")
        settings = found.get("config")
        self.is_program = isinstance(settings, dict) and any(map(settings.get, PROGRAMS))
        return found

    def _version(self) -> str:
        """The tag, where it is a version; else made of the time, as a plain file's."""
        try:
            return str(Version(self.reference.tag))
        except UsageError:
            return time.strftime(UNNUMBERED, time.gmtime())

    def _layers(self) -> list[Blob]:
        """The layers, the lowest first."""
        layers = self.document.get("layers")
        if not isinstance(layers, list) or not 0 < len(layers) <= MOST_LAYERS:
            raise Senseless(NOT_A_BOX)
        if not all(isinstance(one, dict) and one.get("mediaType") in LAYERS for one in layers):
            raise Senseless(NOT_A_BOX)
        found = [blob(one) for one in layers]
        if sum(one.size for one in found) > LARGEST:
            raise Senseless("its layers are larger than any disk")
        return found

    _came = 0

    def _tell(self, size: int) -> None:
        self._came += size
        self.store.report(Progress(step=STEP, done=min(self._came, self._total), total=self._total))


@contextmanager
def _used(parts: Iterable[Path]) -> Iterator[None]:
    """Remove what was fetched once it was of use, or turned out to be of none; else the next pull begins with it."""
    try:
        yield
    except (Interrupted, NoSpace, _NoDisk):
        raise
    except BaseException:
        for part in parts:
            files.remove(part)
        raise
    for part in parts:
        files.remove(part)
