"""Every key of a Vmfile: what it holds, what it means, and where it may stand. The schema is made from this too."""

from __future__ import annotations

from typing import Any

from vmctl import spec
from vmctl.spec import GIB, MIB
from vmctl.vmfile.box_refs import BOX, NAME
from vmctl.vmfile.dependencies import DependsOn
from vmctl.vmfile.expansion import ForEach
from vmctl.vmfile.folders import DEFAULT_GUEST, FOLDER
from vmctl.vmfile.kinds import flag, parsed, text, whole
from vmctl.vmfile.nics import NETWORK
from vmctl.vmfile.port_keys import HIGHEST, PORT
from vmctl.vmfile.project_test_keys import TEST_KEYS
from vmctl.vmfile.provider_names import PROVIDER
from vmctl.vmfile.provisioner_keys import PROVISION
from vmctl.vmfile.quantities import SIZE_PATTERN, SIZE_WORDS, Mismatch, format_size, parse_size
from vmctl.vmfile.readiness import READY
from vmctl.vmfile.remote_keys import REMOTES
from vmctl.vmfile.structures import Field, FreeMap, ListOf, MapOf
from vmctl.vmfile.times import duration
from vmctl.vmfile.trigger_keys import Triggers

MOST_MACHINES = 1000
MOST_CPUS = 256
SMALLEST_MEMORY, LARGEST_MEMORY = 64 * MIB, 16 * 1024 * GIB
SMALLEST_DISK, LARGEST_DISK = 64 * MIB, 64 * 1024 * GIB

LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOSTNAME = rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*"
USER = r"(?!root$)[a-z_][a-z0-9_-]{0,31}"


def _size(smallest: int, largest: int) -> Any:
    def parse(value: Any) -> int:
        size = parse_size(value)
        if isinstance(value, int) and 0 < size < smallest <= size * MIB <= largest:
            raise Mismatch(f"{size} is a number of bytes and too few, did you mean {size}MiB?")
        if not smallest <= size <= largest:
            raise Mismatch(f"{format_size(size)} is not between {format_size(smallest)} and {format_size(largest)}")
        return size

    json = [
        {"type": "integer", "minimum": smallest, "maximum": largest},
        {"type": "string", "pattern": SIZE_PATTERN},
    ]
    return parsed(SIZE_WORDS, parse, {"anyOf": json})


MACHINE: dict[str, Field] = {
    "box": Field(BOX, "What the machine starts from: NAME[@CONSTRAINT], a path (./…) or a URL."),
    "provider": Field(PROVIDER, "What runs the machine; auto = the first usable.", default="auto"),
    "cpus": Field(whole(1, MOST_CPUS), "Virtual processors.", default=spec.DEFAULT_CPUS),
    "memory": Field(_size(SMALLEST_MEMORY, LARGEST_MEMORY), "Memory.", default=format_size(spec.DEFAULT_MEMORY)),
    "disk": Field(_size(SMALLEST_DISK, LARGEST_DISK), "Size of the root disk and its filesystem; default: the box's."),
    "hostname": Field(
        text("a host name", HOSTNAME, "a host name has labels of a-z, 0-9 and '-', joined by dots"),
        "What the guest calls itself; default: the machine's name.",
    ),
    "user": Field(
        text("a user's name", USER, "a login user has 1 to 32 of a-z, 0-9, '_' and '-', and is not root"),
        "Login user; default: the box's.",
    ),
    "ssh_port": Field(
        whole(1, HIGHEST), "Where the guest's SSH server listens, in the guest.", default=spec.DEFAULT_SSH_PORT
    ),
    "boot_timeout": Field(duration(), "How long SSH may take to answer.", default=spec.DEFAULT_BOOT_TIMEOUT),
    "halt_timeout": Field(duration(), "How long a shutdown may take.", default=spec.DEFAULT_HALT_TIMEOUT),
    "synced_folders": Field(
        ListOf(FOLDER, most=100), "Directories of the host that the guest sees.", default=[f".:{DEFAULT_GUEST}"]
    ),
    "ports": Field(ListOf(PORT), "Ports of the host that lead to ports of the guest.", default=[]),
    "networks": Field(ListOf(NETWORK, most=7), "Further network cards, machine to machine.", default=[]),
    "depends_on": Field(
        DependsOn(), "Machines that have come so far before this one begins: started, ready, provisioned.", default=[]
    ),
    "autostart": Field(flag(), "Whether `vmctl up` without names means it too.", default=True),
    "primary": Field(flag(), "Whether `vmctl ssh` and the like mean it when no machine is named.", default=False),
    "ready": Field(READY, "What must hold before the machine counts as ready.", default=[]),
    "provision": Field(PROVISION, "What sets the machine up, in order; a machine's own comes after the top level's."),
}
"""Keys that may stand at the top level (for all machines) and below a machine; mappings named as a provider too."""

COUNT = Field(whole(1, MOST_MACHINES), "How many such machines: NAME-1, NAME-2, …")
FOR_EACH = Field(ForEach(), "One such machine for each key: NAME-KEY; expressions know each.key and each.value.")
MOST_AT_ONCE = 256

TOP_ONLY: dict[str, Field] = {
    "vars": Field(FreeMap(), "Values for expressions; --set and VMCTL_VAR_name override them.", default={}),
    "box_aliases": Field(
        MapOf(BOX, NAME.pattern, "expected the name of a box, without a version"),
        "Boxes that are used in place of named ones: NAME: BOX; the project's stand above the user's own.",
        default={},
    ),
    "message": Field(text(), "What `vmctl up` says at the end."),
    "triggers": Field(Triggers(), "What runs before or after commands do their work on machines.", default=[]),
    "test": Field(TEST_KEYS, "What `vmctl test` does."),
    "remotes": Field(REMOTES, "Real servers by target, for the same provisioners: `vmctl provision --target NAME`."),
    "parallel": Field(
        whole(1, MOST_AT_ONCE), "How many machines are worked on at the same time; default: what the host can take."
    ),
}

USER_ONLY_MISSES = (
    "machines", "message", "test", "triggers", "hostname", "ports", "networks", "depends_on", "primary", "ready",
    "provision", "remotes",
)  # fmt: skip
"""Keys that make no sense in the user's own Vmfile, which lies below every project's."""
