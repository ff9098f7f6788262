"""What a Vmfile says, as frozen values; and the built-in defaults.

Nothing here reads files or talks to anything. ``vmctl.vmfile`` makes these values, the rest of vmctl obeys them.
Sizes are bytes, times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

from vmctl.box_facts import BoxRef
from vmctl.provisioners import Ansible, File, Provisioner, Reboot, Run, Shell
from vmctl.source_location import Located, SourceLocation

__all__ = [
    "Ansible", "BoxRef", "Dependency", "File", "Folder", "MachineSpec", "Network", "Port", "Project",
    "Provisioner", "ReadyCheck", "Reboot", "Run", "Shell", "SourceLocation",
]  # fmt: skip

MIB = 1024**2
GIB = 1024**3

DEFAULT_MACHINE = "default"
DEFAULT_CPUS = 2
DEFAULT_MEMORY = 1 * GIB
DEFAULT_BOOT_TIMEOUT = 300.0
DEFAULT_HALT_TIMEOUT = 60.0
DEFAULT_CACHE_SIZE = 20 * GIB
DEFAULT_CACHE_AGE = 30 * 24 * 3600.0
DEFAULT_SSH_PORT = 22
LOOPBACK = "127.0.0.1"

FolderKind = Literal["auto", "virtiofs", "9p", "vboxsf", "bind", "rsync"]
Protocol = Literal["tcp", "udp"]
When = Literal["before", "after"]
Occasion = Literal["up", "halt", "suspend", "resume", "reload", "destroy", "provision"]
Confirm = Literal["ask", "name"]
Condition = Literal["started", "ready", "provisioned"]


class Effect(Enum):
    """What it takes to apply a changed value to a machine that exists."""

    UP = "up"
    RELOAD = "reload"
    RECREATE = "recreate"


class Folder(Struct, frozen=True, kw_only=True):
    """A host directory that shows up in the guest."""

    host: Path
    guest: str
    kind: FolderKind = "auto"
    read_only: bool = False
    exclude: tuple[str, ...] = ()
    """rsync patterns that are never sent (``.vmctl/`` and ``.git/`` rules are rsync's caller's business)."""


class Port(Struct, frozen=True, kw_only=True):
    """A port of the guest that the host forwards to. ``host`` None = vmctl picks a free one and keeps it."""

    guest: int
    host: int | None
    host_ip: str = LOOPBACK
    protocol: Protocol = "tcp"


class Network(Struct, frozen=True, kw_only=True):
    """One more NIC, on the network ``name`` that machines of the project share. ``ip`` None = allocated."""

    name: str
    ip: str | None = None
    netmask: str = "255.255.255.0"
    isolated: bool = False
    """Whether this host stays off it, so that other networks may have the same addresses."""


class ReadyCheck(Struct, frozen=True, kw_only=True):
    """What must hold before a machine counts as ready: exactly one of ``port``, ``http``, ``command`` and ``unit``.

    All are looked at from inside the guest.
    """

    port: int | None = None
    http: str | None = None
    """A URL that answers."""
    status: int | None = None
    """Which HTTP status it answers with; None = any from 200 to 399."""
    command: str | None = None
    unit: str | None = None
    """A systemd unit that is active."""
    timeout: float = 60.0
    hint: str = ""
    """What to tell who waits in vain; "" = what vmctl knows itself."""


class Dependency(Struct, frozen=True, kw_only=True):
    """Another machine, and how far it must have come before this one begins."""

    machine: str
    until: Condition = "ready"


class Trigger(Located, frozen=True, kw_only=True):
    """What runs before or after a command's work on a machine: exactly one of ``argv``, ``script`` and ``inline``."""

    name: str
    """For messages."""
    when: When
    events: tuple[Occasion, ...]
    argv: tuple[str, ...] = ()
    script: Path | None = None
    """A file on the host."""
    inline: str | None = None
    args: tuple[str, ...] = ()
    """Of the script."""
    on: Literal["host", "guest"] = "host"
    env: Mapping[str, str] = field(default_factory=dict)
    become: bool = False
    """Whether it runs as root in the guest."""
    on_error: Literal["abort", "continue"] = "abort"
    machines: tuple[str, ...] | None = None
    """The machines that it is about; None = all."""
    place: SourceLocation | None = None


class Verifier(Struct, frozen=True, kw_only=True):
    """What `vmctl test` asks whether the machines do their work: exactly one of the three, each a path on the host."""

    name: str
    playbook: Path | None = None
    pytest: Path | None = None
    """A file or a directory of tests."""
    script: Path | None = None
    """Runs in every machine."""


class ProjectTest(Struct, frozen=True, kw_only=True):
    """What `vmctl test` does."""

    verify: tuple[Verifier, ...] = ()
    idempotence: bool = True
    """Whether provisioning again must change nothing."""
    reboot: bool = True
    boxes: tuple[BoxRef, ...] = ()
    """One test for each; none = the boxes of the machines."""


class MachineSpec(Located, frozen=True, kw_only=True):
    """One machine, as the Vmfile wants it, every default filled in."""

    name: str
    box: BoxRef
    box_alias: str = ""
    """How the Vmfile writes the box whose place an alias gave to ``box``; "" = no alias did."""
    box_key: Path | None = None
    """The public key that must have signed the box; ``box`` has it, too."""
    box_alias_by: str = ""
    """What says so, for messages: "box_aliases", "alias: true, …", "--alias, …", "Vmfile.lock"."""
    group: str = ""
    """The key below ``machines:``; with ``count`` several machines share it ("web" of "web-1")."""
    index: int = 1
    """Which one of its group, from 1."""
    provider: str = "auto"
    hostname: str = ""
    """What the guest calls itself; the loader fills in the machine's name."""
    user: str = ""
    """Login user; "" = what the box says, else ``DEFAULT_USER``."""
    ssh_port: int = DEFAULT_SSH_PORT
    """Where the guest's SSH server listens, in the guest."""
    cpus: int = DEFAULT_CPUS
    memory: int = DEFAULT_MEMORY
    disk: int | None = None
    """Size of the root disk; None = as large as the box's."""
    folders: tuple[Folder, ...] = ()
    ports: tuple[Port, ...] = ()
    networks: tuple[Network, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    instant: bool = False
    """Whether the ready machine's memory is kept, for `up` to go on from after `destroy`."""
    autostart: bool = True
    """Whether a command that brings machines up means this one, too, when no machine is named."""
    primary: bool = False
    """Whether a command about one machine means this one when none is named."""
    ready: tuple[ReadyCheck, ...] = ()
    provision: tuple[Provisioner, ...] = ()
    boot_timeout: float = DEFAULT_BOOT_TIMEOUT
    halt_timeout: float = DEFAULT_HALT_TIMEOUT
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Provider-only knobs by provider name, as written; each provider checks its own in ``Driver.check``."""
    places: Mapping[str, SourceLocation] = field(default_factory=dict)
    """Where a field was written, by dotted path below the machine ("libvirt.cpu", "ports.0"), for messages."""


class Server(Located, frozen=True, kw_only=True):
    """A real server that the Vmfile has: where SSH answers, and how to get in. Empty = what ``~/.ssh/config`` says."""

    name: str
    address: str = ""
    """"" = the name."""
    port: int | None = None
    user: str = ""
    key: Path | None = None
    """It need not exist until the server is used."""
    jump: str = ""
    """[USER@]HOST[:PORT], or the name of another server of the target."""
    groups: tuple[str, ...] = ()
    vars: Mapping[str, Any] = field(default_factory=dict)
    place: SourceLocation | None = None


class Remote(Located, frozen=True, kw_only=True):
    """A target: servers that vmctl provisions and never makes, stops or removes; ``servers`` or an ``inventory``."""

    name: str
    servers: tuple[Server, ...] = ()
    inventory: Path | None = None
    known_hosts: Path | None = None
    """Host keys that count besides the user's own."""
    vars: Mapping[str, Any] = field(default_factory=dict)
    confirm: Confirm = "ask"
    place: SourceLocation | None = None


class ServerProvisioner(Struct, frozen=True, kw_only=True):
    """A provisioner as servers get it: all of them, or those that stand for one of these ``machines``."""

    provisioner: Provisioner
    machines: tuple[str, ...] | None = None


class Cache(Struct, frozen=True, kw_only=True):
    """How many layers are kept for machines to come."""

    size: int = DEFAULT_CACHE_SIZE
    """Bytes on disk; 0 = none is made or used."""
    age: float = DEFAULT_CACHE_AGE
    """How long one is kept that nothing uses."""


class Project(Located, frozen=True, kw_only=True):
    """A whole Vmfile: its directory and its machines in the order of the file."""

    root: Path
    file: Path
    machines: tuple[MachineSpec, ...]
    message: str = ""
    triggers: tuple[Trigger, ...] = ()
    test: ProjectTest = field(default_factory=ProjectTest)
    """What the Vmfile's ``test:`` says."""
    parallel: int | None = None
    """How many machines a command works on at the same time; None = as many as the host can take."""
    vars: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Provider-only knobs of the top level (and the user's Vmfile), without those of single machines."""
    cache: Cache = field(default_factory=Cache)
    """What the user's own Vmfile says of layers."""
    remotes: tuple[Remote, ...] = ()
    for_servers: tuple[ServerProvisioner, ...] = ()
    """What servers get, in order; empty without ``remotes``."""
    places: Mapping[str, SourceLocation] = field(default_factory=dict)
    """Where ``vars`` and ``message`` were written, by dotted path ("vars.app_port")."""

    @property
    def name(self) -> str:
        """The project's directory name."""
        return self.root.name

    @property
    def provisioners(self) -> tuple[Provisioner, ...]:
        """Those of all machines, one after the other."""
        return tuple(item for spec in self.machines for item in spec.provision)
