"""Disks in container images, as KubeVirt has them and makers of cloud images push them: ``/disk/*.qcow2`` in a layer.

Format: https://kubevirt.io/user-guide/storage/disks_and_volumes/#containerdisk.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmctl import json_text
from vmctl.boxes import box_names, contents
from vmctl.boxes.adding import UNNUMBERED
from vmctl.boxes.archive import BadArchive
from vmctl.boxes.box import Box
from vmctl.boxes.image import LARGEST
from vmctl.boxes.oci import artifact
from vmctl.boxes.oci.artifact import Config, DiskInfo, Senseless
from vmctl.boxes.oci.assembly import STEP
from vmctl.boxes.oci.layout import CLUSTER
from vmctl.boxes.oci.pull import Pulling
from vmctl.boxes.oci.registry import Blob
from vmctl.boxes.space import NoSpace, Room
from vmctl.boxes.vagrant_box import DEFAULT_USER as VAGRANT_USER
from vmctl.boxes.versions import Version
from vmctl.errors import Interrupted, UsageError
from vmctl.events import Progress
from vmctl.spec import DEFAULT_USER
from vmctl.store import files

LAYERS = tuple(
    f"application/vnd.{kind}{packed}"
    for kind in ("oci.image.layer.v1.tar", "docker.image.rootfs.diff.tar")
    for packed in ("", "+gzip", ".gzip", "+zstd")
)
MOST_LAYERS = 20
PROGRAMS = ("Cmd", "Entrypoint")
NOT_A_DISK = "it is a container image that holds no disk; vmctl takes boxes, and disks as KubeVirt keeps them"


class ContainerDisk(Pulling):
    """The disk of a container image on its way into the store."""

    def run(self) -> tuple[Box, bool]:
        """Take it in."""
        layer = self._layer()
        home, what = self.store.home, f"to pull {self.reference}"
        part = home.downloads / f"oci-{layer.digest.removeprefix('sha256:')[:40]}.part"
        files.make_directory(home.downloads)
        self._came, self._total = files.size(part) if files.exists(part) else 0, layer.size
        self.registry.fetch(layer, part, told=self._tell, room=Room(home.downloads, what).take)
        try:
            taken = self._unpacked(part)
        except (Interrupted, NoSpace):  # the next pull begins with what has come
            raise
        except BaseException:
            files.remove(part)
            raise
        files.remove(part)
        return taken

    def _unpacked(self, part: Path) -> tuple[Box, bool]:
        with self.draft() as draft, files.open_to_read(part) as packed:
            try:
                said = contents.unpack(packed, draft, name=str(self.reference), report=self.store.report)
            except BadArchive as error:
                raise Senseless(f"{NOT_A_DISK} ({error.details})") from error
            if said.first_key or said.further:
                raise Senseless("its layer holds a Vagrant box, which is added as a file")
            return self.take_in(draft, [draft / "image"], moved=lambda: None)

    def _config(self) -> Config:
        """What can be known of the box: by its tag, its repository and the image's own config."""
        said = self._image()
        words = {go: kernel for kernel, go in artifact.ARCHES.items()}
        arch = str(said.get("architecture"))
        if not box_names.ARCH.fullmatch(arch):
            raise Senseless(f"{arch[:100]!r} is not an architecture")
        return Config(
            schema=artifact.SCHEMA, name="", version=self._version(), arch=words.get(arch, arch),
            user=DEFAULT_USER if self.order.cloud_init else VAGRANT_USER,
            disks=(DiskInfo(virtual_size=512, window=CLUSTER),),
        )  # fmt: skip

    def _image(self) -> Mapping[str, Any]:
        data = self.registry.read(artifact.blob(self.document.get("config")), artifact.LONGEST_CONFIG, "the config")
        try:
            found = json_text.loads(data)
        except ValueError as error:
            raise Senseless(f"invalid config: {error}") from error
        settings = found.get("config") if isinstance(found, dict) else None
        if not isinstance(found, dict) or (isinstance(settings, dict) and any(map(settings.get, PROGRAMS))):
            raise Senseless(NOT_A_DISK)
        return found

    def _version(self) -> str:
        """The tag, where it is a version; else made of the time, as a plain file's."""
        try:
            return str(Version(self.reference.tag))
        except UsageError:
            return time.strftime(UNNUMBERED, time.gmtime())

    def _layer(self) -> Blob:
        """The layer that holds the disk: the largest."""
        layers = self.document.get("layers")
        if not isinstance(layers, list) or not 0 < len(layers) <= MOST_LAYERS:
            raise Senseless(NOT_A_DISK)
        found = [artifact.blob(one) for one in layers if isinstance(one, dict) and one.get("mediaType") in LAYERS]
        if not found:
            raise Senseless(NOT_A_DISK)
        largest = max(found, key=lambda one: one.size)
        if largest.size > LARGEST:
            raise Senseless("its disk is larger than any disk")
        return largest

    def _tell(self, size: int) -> None:
        self._came += size
        self.store.report(Progress(step=STEP, done=min(self._came, self._total), total=self._total))
