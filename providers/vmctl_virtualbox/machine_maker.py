"""Making a machine, and giving one that is off the hardware that is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from vmctl.driver import Definition, Disk
from vmctl_virtualbox import answers, hardware, knobs, media, networks
from vmctl_virtualbox.layer_media import LayerMedia
from vmctl_virtualbox.machine import VirtualBoxMachine
from vmctl_virtualbox.media import Media


@dataclass(frozen=True)
class MachineMaker:
    """Makes the machines of one vmctl data directory."""

    media: Media
    layers: LayerMedia

    def make(self, machine: VirtualBoxMachine, definition: Definition, base: Disk, medium: str) -> None:
        """Register the machine with its disk: a copy of ``medium``, or made from a layer or a box."""
        chosen, uuid = knobs.read(definition.spec), machine.uuid
        home = self.media.machine(uuid)
        home.mkdir(mode=0o700, parents=True)
        place = ("--basefolder", home, "--ostype", hardware.OS_TYPE, "--uuid", uuid, "--register")
        self.media.door("createvm", "--name", definition.name, *place)
        shown = machine.existing()
        disk = (machine.folder(shown) or home) / media.ROOT_DISK
        if medium:
            self.media.copy(medium, disk)
        elif base.layer:
            self.layers.add_root_disk(base.layer, disk, linked=chosen.linked_clone, size=definition.spec.disk)
        else:
            self.media.add_root_disk(base, disk, linked=chosen.linked_clone, size=definition.spec.disk)
        self.media.door("storagectl", uuid, *hardware.controller(chosen.controller, base.format))
        port = ("--storagectl", hardware.CONTROLLER, "--port", str(hardware.DISK_PORT), "--device", "0")
        self.media.door("storageattach", uuid, *port, "--type", "hdd", "--medium", disk)
        self.media.door("modifyvm", uuid, *hardware.firmware(base.firmware))
        self.apply(machine, definition, shown)

    def apply(self, machine: VirtualBoxMachine, definition: Definition, shown: dict[str, str]) -> None:
        """Make a stopped machine's settings, cards, seed and folders those of the definition; it showed ``shown``."""
        chosen = knobs.read(definition.spec)
        options = hardware.settings(definition, chosen, answers.rules(shown))
        for number, nic in enumerate(definition.nics, 2):
            attachment = networks.attachment(self.media.door, definition, nic, chosen)
            options += hardware.further_nic(number, attachment, nic.mac, chosen)
        options += hardware.no_nics(2 + len(definition.nics))
        self.media.door("modifyvm", machine.uuid, *hardware.spelled(options, self.media.door.usage("modifyvm")))
        port = ("--storagectl", hardware.CONTROLLER, "--port", str(hardware.SEED_PORT), "--device", "0")
        seed = definition.seed or "emptydrive"
        self.media.door("storageattach", machine.uuid, *port, "--type", "dvddrive", "--medium", seed)
        self._share(machine, definition, shown)

    def _share(self, machine: VirtualBoxMachine, definition: Definition, shown: dict[str, str]) -> None:
        for tag in answers.shares(shown):
            self.media.door("sharedfolder", "remove", machine.uuid, "--name", tag)
        for share in definition.shares:
            mode = ["--readonly"] if share.read_only else []
            self.media.door("sharedfolder", "add", machine.uuid, "--name", share.tag, "--hostpath", share.host, *mode)
