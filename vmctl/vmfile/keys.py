"""Every key of machines, described once: reading, the schema, `config`, `plan` and the manual all go by this.

A further key of machines is one entry of ``MACHINE``, and an attribute of ``spec.MachineSpec`` for its value.
"""

from __future__ import annotations

from typing import Any

from vmctl import redaction, spec
from vmctl.spec import GIB, MIB, Effect
from vmctl.vmfile import (
    dependencies,
    effective_provision,
    folder_keys,
    network_keys,
    port_keys,
    ready_keys,
)
from vmctl.vmfile.box_refs import BOX
from vmctl.vmfile.dependencies import DependsOn
from vmctl.vmfile.described_key import Key, each
from vmctl.vmfile.expansion import ForEach
from vmctl.vmfile.folder_keys import DEFAULT_GUEST, FOLDER
from vmctl.vmfile.host_paths import FILE
from vmctl.vmfile.kinds import duration, flag, parsed, quantity, text, whole
from vmctl.vmfile.network_keys import NETWORK
from vmctl.vmfile.port_keys import HIGHEST, PORT
from vmctl.vmfile.provider_keys import PROVIDER
from vmctl.vmfile.provisioner_keys import PROVISION
from vmctl.vmfile.quantities import SIZE_PATTERN, SIZE_WORDS, Mismatch, format_duration, format_size, parse_size
from vmctl.vmfile.ready_keys import READY
from vmctl.vmfile.structures import ListOf

MOST_MACHINES = 1000
MOST_CPUS = 256
SMALLEST_MEMORY, LARGEST_MEMORY = 64 * MIB, 16 * 1024 * GIB
SMALLEST_DISK, LARGEST_DISK = 64 * MIB, 64 * 1024 * GIB

LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOSTNAME = rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*"
TIME = "[time](#sizes-and-times), 1s to 24h"
USER = r"(?!root$)[a-z_][a-z0-9_-]{0,31}"


def size_between(smallest: int, largest: int) -> Any:
    """A size in bytes, as people write it."""

    def parse(value: Any) -> int:
        size = parse_size(value)
        if isinstance(value, int) and 0 < size < smallest <= size * MIB <= largest:
            raise Mismatch(f"{size} is a number of bytes and too few, did you mean {size}MiB?")
        if not smallest <= size <= largest:
            raise Mismatch(f"{format_size(size)} is not between {format_size(smallest)} and {format_size(largest)}")
        return size

    return parsed(SIZE_WORDS, parse, quantity("integer", smallest, largest, SIZE_PATTERN))


MACHINE: dict[str, Key] = {
    "box": Key(
        BOX,
        "What the machine starts from: NAME[@CONSTRAINT], a path (./…) or a URL.",
        write=str,
        effect=Effect.RECREATE,
        record=lambda box: redaction.urls(str(box)),
        holds="text",
        otherwise="(needed)",
        more="With constraints: `debian-12@~>12.1,!=12.4`. A path begins with `./`, `../`, `/` or `~`; a URL with "
        "http, https, file or [oci](boxes.md#boxes-in-an-oci-registry).",
    ),
    "box_key": Key(
        FILE,
        "Public key that must have signed the box of a registry, as cosign does it.",
        write=lambda path: None if path is None else str(path),
        holds="path",
        more="Of `box: oci://…` only; see [boxes.md](boxes.md#signatures).",
    ),
    "alias": Key(
        flag(),
        "Whether a living image takes the place of a box whose well-known name no server has.",
        default=False,
        write=None,
        more="`vmctl`'s table says which one: [boxes.md](boxes.md#names-whose-server-has-gone). `--alias` of `up`, "
        "`plan`, `test`, `box lock` and `box add` does the same once.",
    ),
    "provider": Key(
        PROVIDER,
        "What runs the machine; auto = the first usable.",
        default="auto",
        holds="name",
        more="`libvirt`, `virtualbox`, `incus`, or an installed plug-in. `up --provider` is above this; `auto` leaves "
        "it to `$VMCTL_PROVIDER`, else to the first usable. A machine that exists stays where it is, and is never made "
        "a second time under another provider, even when vmctl has lost its records; `status` says which provider it "
        "has, and why.",
    ),
    "cpus": Key(
        whole(1, MOST_CPUS),
        "Virtual processors.",
        default=spec.DEFAULT_CPUS,
        effect=Effect.RELOAD,
        otherwise=f"the box's, else {spec.DEFAULT_CPUS}",
    ),
    "memory": Key(
        size_between(SMALLEST_MEMORY, LARGEST_MEMORY),
        "Memory.",
        default=format_size(spec.DEFAULT_MEMORY),
        write=format_size,
        effect=Effect.RELOAD,
        holds="[size](#sizes-and-times), ≥ 64MiB",
        otherwise="the box's, else 1GiB",
    ),
    "disk": Key(
        size_between(SMALLEST_DISK, LARGEST_DISK),
        "Size of the root disk and its filesystem; default: the box's.",
        write=lambda size: None if size is None else format_size(size),
        effect=Effect.RELOAD,
        holds="size, ≥ 64MiB",
        otherwise="the box's",
        more="Both grow to it.",
    ),
    "hostname": Key(
        text("a host name", HOSTNAME, "a host name has labels of a-z, 0-9 and '-', joined by dots"),
        "What the guest calls itself; default: the machine's name.",
        where="project",
        effect=Effect.RELOAD,
        holds="host name (RFC 1123)",
        otherwise="the machine's name",
        more="No two machines may have the same.",
    ),
    "user": Key(
        text("a user's name", USER, "a login user has 1 to 32 of a-z, 0-9, '_' and '-', and is not root"),
        "Login user; default: the box's.",
        effect=Effect.RECREATE,
        holds="user name, not root",
        otherwise="the box's",
    ),
    "ssh_port": Key(
        whole(1, HIGHEST),
        "Where the guest's SSH server listens, in the guest.",
        default=spec.DEFAULT_SSH_PORT,
        effect=Effect.RELOAD,
        otherwise=f"the box's, else {spec.DEFAULT_SSH_PORT}",
    ),
    "boot_timeout": Key(
        duration(),
        "How long SSH may take to answer.",
        default=format_duration(spec.DEFAULT_BOOT_TIMEOUT),
        write=format_duration,
        holds=TIME,
    ),
    "halt_timeout": Key(
        duration(),
        "How long a shutdown may take.",
        default=format_duration(spec.DEFAULT_HALT_TIMEOUT),
        write=format_duration,
        holds=TIME,
        more="Then it is forced.",
    ),
    "instant": Key(
        flag(),
        "Whether the new machine's memory is kept, so that `up` after `destroy` goes on from it.",
        default=False,
        more="See [cache.md](cache.md#instant-machines).",
    ),
    "synced_folders": Key(
        ListOf(FOLDER, most=100),
        "Directories of the host that the guest sees.",
        default=[f".:{DEFAULT_GUEST}"],
        attribute="folders",
        write=each(folder_keys.write),
        effect=Effect.RELOAD,
        record=each(folder_keys.summary),
        more="See [below](#synced_folders).",
    ),
    "ports": Key(
        ListOf(PORT),
        "Ports of the host that lead to ports of the guest.",
        default=[],
        where="project",
        write=each(port_keys.write),
        effect=Effect.RELOAD,
        record=each(port_keys.summary),
        more="See [below](#ports).",
    ),
    "networks": Key(
        ListOf(NETWORK, most=7),
        "Further network cards, machine to machine.",
        default=[],
        where="project",
        write=each(network_keys.write),
        effect=Effect.RELOAD,
        record=each(network_keys.summary),
        more="See [below](#networks).",
    ),
    "depends_on": Key(
        DependsOn(),
        "Machines that have come so far before this one begins: started, ready, provisioned.",
        default=[],
        where="project",
        write=dependencies.write,
        holds="list of names, or a mapping",
        more="See [below](#depends_on).",
    ),
    "autostart": Key(
        flag(),
        "Whether `vmctl up` without names means it too.",
        default=True,
        more="With `false`, the machine comes up when it is named, or when one that is brought up depends on it.",
    ),
    "primary": Key(
        flag(),
        "Whether `vmctl ssh` and the like mean it when no machine is named.",
        default=False,
        where="project",
        more="At most one machine.",
    ),
    "ready": Key(
        READY,
        "What must hold before the machine counts as ready.",
        default=[],
        where="project",
        write=each(ready_keys.write),
        more="See [below](#ready).",
    ),
    "provision": Key(
        PROVISION,
        "What sets the machine up, in order; a machine's own comes after the top level's.",
        where="project",
        write=each(effective_provision.provisioner),
        otherwise="`[]`",
        more="See [below](#provision).",
    ),
}
"""Keys that may stand at the top level (for all machines) and below a machine; mappings named as a provider too."""

COUNT = Key(
    whole(1, MOST_MACHINES),
    "How many such machines: NAME-1, NAME-2, …",
    more="Also when it is 1, so that counting up later renames nothing. Fixed host ports and addresses count up: "
    "`8080:80` is 8080 on the first machine and 8081 on the second, unless its expression uses `machine`.",
)
FOR_EACH = Key(
    ForEach(),
    "One such machine for each key: NAME-KEY; expressions know each.key and each.value.",
    holds="list of keys, or a mapping",
    more="See [below](#for_each); not beside `count`.",
)
