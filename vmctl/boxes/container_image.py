"""From a root file system to an image that Incus and LXD take: one tar of ``metadata.yaml`` and ``rootfs/``.

Format: https://linuxcontainers.org/incus/docs/main/reference/image_format/ ("unified"). Not compressed: the server
unpacks it for each machine that its storage cannot clone, and would spend most of that time on decompressing.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from vmctl import process
from vmctl.boxes.image import NotAnImage
from vmctl.boxes.recipe import Recipe
from vmctl.boxes.user_namespace import as_root

NOT_IN_CONTAINERS = (
    "./boot/*",
    "./usr/lib/modules/*",
    "./usr/lib/grub/*",
    "./etc/fstab",
    "./etc/systemd/system/getty.target.wants/serial-getty@*",  # its device never comes, and is waited for
)
"""What a machine without kernel, boot loader, disk and serial port has no use for."""


METADATA, ROOT = "metadata.yaml", "rootfs"
FIRST = 16
"""So many members in, what an image begins with has been seen."""


def check(path: Path, name: str) -> None:
    """See that a file is such an image, as far as it is told at its beginning; the server checks the rest.

    Raises:
        NotAnImage: it is something else.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            names = {
                PurePosixPath(member.name).parts[0] for member in islice(archive, FIRST) if member.name.strip("./")
            }
    except (tarfile.TarError, EOFError) as error:
        raise NotAnImage(name, f"The root file system in it is damaged: {error}.") from error
    if not {METADATA, ROOT} <= names:
        raise NotAnImage(name, f"What is called a root file system in it holds no {METADATA} and {ROOT}/.")


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """One image in the making."""

    recipe: Recipe
    work: Path
    epoch: int

    def make(self, tree: Path, target: Path) -> None:
        """Write the image ``target`` with the root file system ``tree``."""
        (self.work / "metadata.yaml").write_text(json.dumps(self._metadata()), encoding="utf-8")  # JSON is YAML
        exclude = (f"--exclude={pattern}" for pattern in NOT_IN_CONTAINERS)
        process.run(
            as_root(
                process.find("tar"), "--create", "--file", str(target), "--sort=name", "--format=posix",
                "--pax-option=delete=atime,delete=ctime", "--numeric-owner", "--xattrs", "--xattrs-include=*",
                "--transform=s,^\\.,rootfs,rhS", *exclude, f"--mtime=@{self.epoch}",
                "--clamp-mtime", "--directory", str(self.work), "metadata.yaml", "--directory", str(tree), ".",
            )
        )  # fmt: skip

    def _metadata(self) -> dict[str, object]:
        data = self.recipe.data
        return {
            "architecture": str(data["arch"]),
            "creation_date": self.epoch,
            "properties": {"description": str(data["description"]), "name": self.recipe.name},
        }
