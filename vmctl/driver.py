"""The protocol between vmctl and a hypervisor, and nothing else.

A provider is a class with these methods, announced as an entry point in the group ``vmctl.providers``. It is made
with one argument, a ``Host``. Its suite of tests is ``vmctl.testing.DriverContract``. ``vmctl.powers`` has what a
provider may be able to do besides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from vmctl.errors import WrongState
from vmctl.spec import FolderKind, MachineSpec


class State(Enum):
    """What a machine that exists is doing. A machine that does not exist is not in ``Driver.states()``."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    PAUSED = "paused"
    SAVED = "saved"
    STOPPED = "stopped"
    CRASHED = "crashed"
    UNKNOWN = "unknown"


class Tag(Struct, frozen=True, kw_only=True):
    """Whose a machine is; kept inside the hypervisor. Without one, vmctl does not touch a machine."""

    project: str
    """Project id (32 hex digits)."""
    machine: str
    """The machine's name in the Vmfile."""
    version: str
    """The vmctl that made it."""
    root: str = ""
    """The project's directory when it was made, for ``vmctl list``; may have moved since."""

    def is_same(self, other: Tag) -> bool:
        """Whether both mean the same machine of the same project, whoever made it and wherever that was."""
        return (self.project, self.machine) == (other.project, other.machine)


UNTOLD = Tag(project="", machine="", version="")
"""For ``Observed.tag`` where the hypervisor knows that there is a machine, but cannot tell whose it is now."""


class NotOurs(WrongState):
    """A machine of that name exists, and does not bear the tag of the one that was meant."""

    def __init__(self, provider: str, name: str, tag: Tag | None) -> None:
        whose = "belongs to another machine of vmctl's" if tag else "was not made by vmctl"
        super().__init__(
            f"{provider} has a machine {name!r} that {whose}, so vmctl does not touch it",
            details=f"It is machine {tag.machine!r} of project {tag.project} in {tag.root or '?'}." if tag else "",
            hint="vmctl list",
        )


class Observed(Struct, frozen=True, kw_only=True):
    """What the hypervisor says of one machine."""

    state: State
    tag: Tag
    """``UNTOLD`` only where ``state`` is UNKNOWN."""
    run: str = ""
    """Changes each time the machine is started or restored; "" when it is not running."""
    raw: str = ""
    """The hypervisor's own word for the state."""
    problem: str = ""
    """What is wrong with it that its state does not tell, in words: what a restart mends, or, of one that is PAUSED,
    why the hypervisor has stopped it; ``start`` then has it try again."""
    member: str = ""
    """Which server of a cluster has it; "" = the hypervisor is none."""


CONTAINER = "container"
"""The format of a system without kernel and boot loader: an archive that Incus and LXD take as an image."""


class Disk(Struct, frozen=True, kw_only=True):
    """What machines start from: the image of a box, or a layer that was made on it. Never written to."""

    path: Path
    format: str
    """qcow2, raw, vmdk, vdi, or ``CONTAINER``."""
    digest: str
    """Names the content: lower-case hex SHA-256 of the file."""
    virtual_size: int
    firmware: str = "bios"
    """bios or uefi."""
    arch: str = "x86_64"
    further: tuple[Disk, ...] = ()
    """The box's other disks, in order; empty unless ``Features.several_disks``. They have no further ones."""
    layer: str = ""
    """Key of the layer to begin with in place of the images (``vmctl.powers.Layers``); "" = none."""


class Forward(Struct, frozen=True, kw_only=True):
    """A forwarded port with every choice made; ``name`` is "ssh" for the one that vmctl uses itself."""

    name: str
    guest: int
    host: int
    host_ip: str
    protocol: str


class Nic(Struct, frozen=True, kw_only=True):
    """A NIC with every choice made. NIC 1 (user-mode NAT) is ``Definition.mac``; these are the further ones."""

    network: str
    """The network's name in the Vmfile."""
    mac: str
    ip: str
    prefix: int
    isolated: bool = False
    """Whether the host must not be on the network, nor anything else but machines of the project."""


class Share(Struct, frozen=True, kw_only=True):
    """A folder that the hypervisor offers to the guest under ``tag``; the core mounts it."""

    tag: str
    host: Path
    kind: FolderKind
    read_only: bool = False
    owner: tuple[int, int] | None = None
    """uid and gid in the guest that host files of the folder's owner should belong to; None = unmapped."""


class Definition(Struct, frozen=True, kw_only=True):
    """What a machine must look like in the hypervisor: the spec, with every choice made by the core."""

    name: str
    """The machine's name in the hypervisor."""
    tag: Tag
    spec: MachineSpec
    mac: str
    """MAC address of NIC 1."""
    console: Path
    """File for the serial console's output."""
    seed: Path | None = None
    """The seed, an ISO image; None for a box that reads none."""
    forwards: tuple[Forward, ...] = ()
    nics: tuple[Nic, ...] = ()
    shares: tuple[Share, ...] = ()
    network_prefix: str = ""
    """Prefix for what the provider must name in the hypervisor on behalf of the project (networks)."""


class Address(Struct, frozen=True, kw_only=True):
    """Where SSH answers."""

    host: str
    port: int


class Features(Struct, frozen=True, kw_only=True):
    """Facts that the core branches on; it never looks at a driver's name."""

    formats: tuple[str, ...]
    """Image formats that ``create`` takes, best first."""
    folders: tuple[FolderKind, ...]
    """What ``Definition.shares`` may hold here and now, best first; rsync needs no help from the driver."""
    no_folders: str = ""
    """Why ``folders`` is empty, in words."""
    folders_by: str = ""
    """A command (or what to write) that would change that."""
    parallel: bool = True
    """Whether machines may be created and started at the same time."""
    user_network: bool = True
    """Whether NIC 1 is user-mode NAT with ``Definition.forwards`` on the host's loopback."""
    nic1_address: str = "10.0.2.15/24"
    """Static address of NIC 1 inside the guest; "" = the guest asks by DHCP."""
    nic1_gateway: str = "10.0.2.2"
    nic1_dns: str = "10.0.2.3"
    several_disks: bool = False
    """Whether ``create`` takes a ``Disk`` with ``further`` ones."""
    kernel: str = ""
    """Which kernel guests run, where it is none of their own (containers); "" = that of their box."""
    copies_layers: bool = False
    """Whether a layer (``vmctl.powers.Layers``) is a copy of disks, or of what a machine wrote: that takes its time."""


class Host(Struct, frozen=True, kw_only=True):
    """What a driver may use of its surroundings."""

    home: Path
    """vmctl's own data directory ($VMCTL_HOME)."""
    warn: Callable[[str, str], None] = lambda _text, _hint: None
    """Tell the user something once: text, hint."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Connection-wide options of this provider from the Vmfile's top level (``libvirt: {uri: …}``)."""
    where: str = ""
    """``Driver.where`` when this project's machines were made; "" = there are none, any choice is fine.

    A driver that would now connect elsewhere has to connect here instead, or raise: the machines there would
    look as if they did not exist.
    """


class Driver(Protocol):
    """A hypervisor.

    Every method blocks, may be repeated, prints nothing, never waits for the guest, and raises only ``VmctlError``.
    Methods are called from several threads at once when ``features.parallel``.

    ``name`` is ``Definition.name``, and ``tag`` says whose machine is meant. One of that name that bears another tag,
    or none, is not touched: the method raises ``NotOurs``. What was checked is what is changed, by an identity of the
    hypervisor's own (a UUID), whatever else gets the name in the meantime.
    """

    name: str
    """The provider's name: "libvirt"."""

    def __init__(self, host: Host) -> None:
        """Keep ``host``; connecting waits for the first call that needs it."""

    @property
    def features(self) -> Features:
        """What this hypervisor can do here."""

    @property
    def where(self) -> str:
        """Which hypervisor this is, where a provider can mean several ("qemu:///system"); may connect."""

    def usable(self) -> str:
        """Why this provider cannot be used on this host, or "" when it can. Quick, changes nothing, never raises."""

    def check(self, definition: Definition) -> None:
        """Refuse what cannot work (``UsageError``, with hint) before anything is changed."""

    def create(self, definition: Definition, base: Disk) -> None:
        """Make the machine, stopped. It exists with this tag: nothing to do. It fails: leaves nothing behind.

        Raises:
            WrongState: there is no layer of the key that ``base`` names.
        """

    def update(self, definition: Definition) -> None:
        """Make a stopped machine's hardware match; disks are kept, and grown where the spec says so."""

    def start(self, name: str, tag: Tag) -> None:
        """Start, or restore from the saved state, or unpause. Running: nothing to do."""

    def stop(self, name: str, tag: Tag, *, force: bool = False) -> None:
        """Press the power button and return. Stopped or absent: nothing to do.

        ``force`` cuts the power, and also drops a saved state.
        """

    def destroy(self, name: str, tag: Tag) -> None:
        """Remove the machine and all that ``create`` made for it. Absent: removes leftovers, if any.

        Leftovers are what only a machine of that name can have had; what another machine uses stays.
        """

    def states(self) -> Mapping[str, Observed]:
        """All tagged machines, of all projects, by hypervisor name, in one call; raises when it cannot ask.

        Those whose tag the hypervisor cannot tell now (a member of its cluster is away) are in it as ``UNTOLD``, by the
        hypervisor's own names. ``observe`` finds each of them by ``Definition.name``; all else that is asked or done
        by that name, ``check`` too, is an error.
        """

    def observe(self, name: str) -> Observed | None:
        """As ``states``, of one machine, without a look at the others; None = none of that name bears a tag."""

    def address(self, name: str, tag: Tag) -> Address | None:
        """Where SSH answers; None = not known yet. Absent: None."""
