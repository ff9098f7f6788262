"""Every path that vmctl ever writes, except inside a hypervisor's own storage (drivers name those)."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from vmctl.errors import VmctlError
from vmctl.user_environment import base_directory, path_from

VMFILE = "Vmfile"
PROJECT_DIRECTORY = ".vmctl"
MACHINE = re.compile(r"[a-z0-9][a-z0-9-]{0,30}(\.package)?")
"""A machine's name, wherever it comes from: a Vmfile, a directory, a hypervisor. The ending is `vmctl package`'s."""


def home() -> Path:
    """The data directory of vmctl: $VMCTL_HOME, else the XDG data directory's ``vmctl``.

    Raises:
        UsageError: it cannot be told, for want of a home directory.
    """
    return path_from("VMCTL_HOME") or base_directory("XDG_DATA_HOME", ".local/share") / "vmctl"


def user_vmfile() -> Path:
    """The user's own defaults, merged below every project's Vmfile.

    Raises:
        UsageError: as ``home``.
    """
    return base_directory("XDG_CONFIG_HOME", ".config") / "vmctl" / VMFILE


class HomeLayout(Struct, frozen=True):
    """What lies in the data directory."""

    root: Path

    @property
    def boxes(self) -> Path:
        """Boxes, as NAME/VERSION/ARCH/."""
        return self.root / "boxes"

    @property
    def downloads(self) -> Path:
        """Partial downloads, named by the digest of their address."""
        return self.root / "downloads"

    @property
    def ports(self) -> Path:
        """Which host port belongs to which machine, for all projects of this user."""
        return self.root / "ports.json"

    @property
    def projects(self) -> Path:
        """What vmctl keeps of each project, a directory named by the project's id."""
        return self.root / "projects"

    def project(self, project: str, root: Path) -> ProjectLayout:
        """Where the project with this id, whose directory is ``root``, has what."""
        return ProjectLayout(self.projects / project, root / PROJECT_DIRECTORY)

    def memory(self, key: str) -> MachineLayout:
        """What vmctl itself knew of a machine whose memory was kept under this key (0700)."""
        return MachineLayout(self.memories / key)

    def seal(self, key: str) -> Path:
        """What the memory was, and its disks, when all of it was kept; it is written last."""
        return self.memory(key).root / "seal"

    @property
    def memories(self) -> Path:
        """Parent of what was known of machines whose memory is kept."""
        return self.root / "memories"

    @property
    def layers(self) -> Path:
        """What vmctl knows of layers besides what their hypervisors do."""
        return self.root / "layers.json"

    @property
    def hypervisors(self) -> Path:
        """Which hypervisors machines were made under, as long as something may be left there."""
        return self.root / "hypervisors.json"

    @property
    def old_index(self) -> Path:
        """Of vmctl 0.1 before state left the projects' directories: id → last known directory."""
        return self.root / "projects.json"

    @property
    def locks(self) -> Path:
        """Lock files for what several projects share."""
        return self.root / "locks"

    @property
    def log(self) -> Path:
        """Debug log of the last commands, with tracebacks."""
        return self.root / "vmctl.log"


class TreeLayout(Struct, frozen=True):
    """What lies in a project's own ``.vmctl``, which its guests can change: vmctl believes nothing of it."""

    root: Path
    """``PROJECT/.vmctl``."""

    @property
    def claim(self) -> Path:
        """Which project this directory says it is."""
        return self.root / "project.json"

    @property
    def gitignore(self) -> Path:
        """Keeps the directory out of version control."""
        return self.root / ".gitignore"

    @property
    def schema(self) -> Path:
        """The Vmfile's JSON Schema, for editors (the Vmfile's first line names it)."""
        return self.root / "Vmfile.schema.json"

    @property
    def inventory(self) -> Path:
        """Directory of the Ansible inventory for people; vmctl's own runs never read it."""
        return self.root / "inventory"


class ProjectLayout(Struct, frozen=True):
    """What vmctl keeps of a project, where no guest can reach it."""

    root: Path
    """``$VMCTL_HOME/projects/ID``."""
    directory: Path
    """``PROJECT/.vmctl``."""

    @property
    def tree(self) -> TreeLayout:
        """What lies in the project's directory."""
        return TreeLayout(self.directory)

    @property
    def place(self) -> Path:
        """Which directory the project is, by path, device and inode."""
        return self.root / "place.json"

    @property
    def runner(self) -> Path:
        """ansible-runner's private data directories."""
        return self.root / "runner"

    @property
    def galaxy(self) -> Path:
        """Roles and collections of requirements files, each state of one in a directory of its own."""
        return self.root / "galaxy"

    @property
    def trials(self) -> Path:
        """Directories of `vmctl test`, each a project of its own while it has machines."""
        return self.root / "test"

    @property
    def history(self) -> Path:
        """What provisioning ran where, when and with what result, one JSON object a line."""
        return self.root / "history"

    @property
    def history_lock(self) -> Path:
        """Held while the history is written."""
        return self.root / "locks" / "history.lock"

    def target_lock(self, name: str) -> Path:
        """Held by the one vmctl of this project that provisions a target of servers."""
        return self.root / "locks" / f"{name}.target"

    def machine_lock(self, name: str) -> Path:
        """Held by the one vmctl that changes this machine; outlives the machine, so that removal cannot race."""
        return self.root / "locks" / name

    @property
    def machines(self) -> Path:
        """Parent of the machines' directories."""
        return self.root / "machines"

    def machine(self, name: str) -> MachineLayout:
        """The directory of one machine.

        Raises:
            VmctlError: nothing of vmctl's is called so.
        """
        if not MACHINE.fullmatch(name):
            raise VmctlError(f"{name!r} cannot name a machine", hint="vmctl list")
        return MachineLayout(self.machines / name)


class MachineLayout(Struct, frozen=True):
    """What lies in one machine's directory (0700; private keys 0600)."""

    root: Path

    @property
    def record(self) -> Path:
        """What only vmctl knows of the machine: box, provider, choices made."""
        return self.root / "machine.json"

    @property
    def journal(self) -> Path:
        """Step log, one JSON object a line; synced before each outside effect."""
        return self.root / "journal"

    @property
    def key(self) -> Path:
        """The machine's private SSH user key (0600); ``.pub`` beside it."""
        return self.root / "id_ed25519"

    @property
    def first_key(self) -> Path:
        """The box's own private key, for the first login to a guest that takes no seed; gone once it is replaced."""
        return self.root / "first_key"

    @property
    def first_password(self) -> Path:
        """The box's password (0600), as ``first_key``."""
        return self.root / "first_password"

    @property
    def host_key(self) -> Path:
        """The guest's pre-generated private SSH host key (0600); ``.pub`` beside it."""
        return self.root / "host_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The guest's host key, for strict checking from the first connection."""
        return self.root / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        """OpenSSH configuration for this machine."""
        return self.root / "ssh_config"

    @property
    def seed(self) -> Path:
        """NoCloud ISO."""
        return self.root / "seed.iso"

    @property
    def synced(self) -> Path:
        """What rsync has sent, a list for each folder, as the guest has it: only that is ever removed from there."""
        return self.root / "synced"

    @property
    def provisioned(self) -> Path:
        """Which provisioners succeeded, with the digest of their inputs."""
        return self.root / "provisioned.json"

    @property
    def console(self) -> Path:
        """The serial console's output."""
        return self.root / "console.log"
