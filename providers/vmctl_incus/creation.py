"""Making instances; what failed is removed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl import interrupt
from vmctl.driver import Definition, Disk, Tag
from vmctl.errors import VmctlError
from vmctl.flock import held
from vmctl_incus.api import Api, resource
from vmctl_incus.box_copies import BoxCopies
from vmctl_incus.errors import ServerError
from vmctl_incus.identity import instance_name
from vmctl_incus.making import Maker
from vmctl_incus.networks import ProjectNetworks


class Creator(Struct, frozen=True):
    """For one server, in one of its projects."""

    api: Api
    maker: Maker
    boxes: BoxCopies
    networks: ProjectNetworks
    locks: Path
    destroy: Callable[[str, Tag], None]
    """``IncusDriver.destroy``."""

    def of_box(self, definition: Definition, base: Disk, size: int, place: str) -> None:
        """Make one that begins with its box.

        Args:
            definition: the machine.
            base: the box.
            size: of its disk, in bytes.
            place: member of a cluster; "" = the server chooses.
        """
        parts = self.maker.parts(definition, size)
        ground = self.boxes.ground(base, parts, place)
        if ground is not None:
            try:
                self.make(definition, self.maker.parts_of(definition, size, ground, ""), place)
            except ServerError:
                if self.api.found(resource("instances", str(ground["name"]))) is not None:
                    raise
            else:
                return
        image = {"type": "image", "fingerprint": self.boxes.image(base)}
        self.make(definition, {"source": image, **parts}, place)

    def make(self, definition: Definition, parts: Mapping[str, Any], member: str) -> None:
        """Make one from the parts of a request; a failed attempt leaves nothing."""
        body = {"name": instance_name(definition.name), "type": "container", **parts}
        try:
            with self.networks.held_for(definition):
                self.networks.ensure(definition)
                self.api.change("POST", resource("instances"), body, taking=self._one_at_a_time(), target=member)
        except BaseException:
            with interrupt.shielded(), suppress(VmctlError):  # what failed first is what matters
                self.destroy(definition.name, definition.tag)
            raise

    def _one_at_a_time(self) -> AbstractContextManager[None]:
        """A cluster puts an instance where there are fewest, and would choose alike for those that come at once."""
        return held(self.locks / "incus-placement") if self.api.is_clustered else nullcontext()
