"""From a root file system to an image that Incus and LXD take: one tar of ``metadata.yaml`` and ``rootfs/``.

Format: https://linuxcontainers.org/incus/docs/main/reference/image_format/ ("unified"). Not compressed: the server
unpacks it for each machine that its storage cannot clone, and would spend most of that time on decompressing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vmctl import process
from vmctl.boxes.recipe import Recipe
from vmctl.boxes.rootless import as_root

NOT_IN_CONTAINERS = (
    "./boot/*",
    "./usr/lib/modules/*",
    "./usr/lib/grub/*",
    "./etc/fstab",
    "./etc/systemd/system/getty.target.wants/serial-getty@*",  # its device never comes, and is waited for
)
"""What a machine without kernel, boot loader, disk and serial port has no use for."""


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
