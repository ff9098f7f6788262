"""How ``remotes:`` is written: real servers, in the Vmfile or in an Ansible inventory of the user's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from msgspec import Struct, structs

from vmctl.spec import Confirm, Remote, Server
from vmctl.vmfile.faults import Rejected, advise, describe
from vmctl.vmfile.host_paths import EXISTING, FILE, SOMETIME
from vmctl.vmfile.kinds import EXPRESSION_SCHEMA, Kind, Schema, choice, text, whole
from vmctl.vmfile.machine_patterns import GROUP as ANY_GROUP
from vmctl.vmfile.machine_patterns import GROUP_WHY
from vmctl.vmfile.nodes import Node, Scalar, Table
from vmctl.vmfile.port_keys import HIGHEST
from vmctl.vmfile.reading import Reading
from vmctl.vmfile.structures import Field, FreeMap, ListOf, MapOf, TableOf, as_table

TARGET = r"[a-z0-9][a-z0-9_-]{0,30}"
TARGET_WHY = "a target's name has 1 to 31 of a-z, 0-9, '_' and '-', and starts with a letter or digit"
HOST = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}"
HOST_WHY = "a server's name has letters, digits, '.', '_' and '-', and starts with a letter, digit or '_'"
RESERVED = ("all", "ungrouped", "localhost")
ADDRESS = text("an address", r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,252}", "not a host's name or address")
USER = text("a user's name", r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", "not a user's name")
HOP = text(
    "a jump host",
    r"([A-Za-z0-9_][A-Za-z0-9_.@+-]*@)?([A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?",
    "expected [USER@]HOST[:PORT], or the name of another server of the target",
)
GROUP = text(
    "a group's name",
    rf"(?!(all|ungrouped)$){ANY_GROUP}",
    GROUP_WHY,
)
PORT = whole(1, HIGHEST, "a port")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BY_KEY = {
    "ansible_host": "address", "ansible_ssh_host": "address", "ansible_port": "port", "ansible_ssh_port": "port",
    "ansible_user": "user", "ansible_ssh_user": "user", "ansible_ssh_private_key_file": "key",
    "ansible_private_key_file": "key",
}  # fmt: skip
NOT_HERE = (
    "ansible_connection", "ansible_host_key_checking", "ansible_ssh_host_key_checking", "ansible_ssh_args",
    "ansible_ssh_common_args", "ansible_ssh_executable", "ansible_ssh_extra_args",
)  # fmt: skip
INLINE_ONLY = ("user", "port", "key", "jump", "known_hosts", "vars")


class ServerVars(FreeMap):
    """Variables of servers, without those that say how to get there."""

    def read(self, node: Node, at: Reading) -> dict[str, Any]:
        """The variables as a dict; faults of all of them are recorded."""
        good = True
        for name, entry in as_table(node, at).entries.items():
            why = ""
            if not VARIABLE.fullmatch(name):
                why = "not a variable's name"
            elif name in BY_KEY:
                why = f"write it as the server's '{BY_KEY[name]}'"
            elif name in NOT_HERE:
                why = "servers are reached by SSH with strict host keys; what else ssh needs belongs in ~/.ssh/config"
            if why:
                at.add(entry.key, why)
                good = False
        if not good:
            raise Rejected
        return super().read(node, at)

    def schema(self) -> Schema:
        """An object without those keys."""
        forbidden = [*BY_KEY, *NOT_HERE]
        names = {"pattern": f"^({VARIABLE.pattern})$", "not": {"enum": forbidden}}
        return {"type": "object", "propertyNames": names}


WAY: dict[str, Field] = {
    "user": Field(USER, "Login user; default: what ~/.ssh/config says, else your own name."),
    "port": Field(PORT, "SSH's port; default: what ~/.ssh/config says, else 22."),
    "key": Field(SOMETIME, "Private key; default: the agent's, and what ~/.ssh/config says."),
    "jump": Field(HOP, "Jump host: [USER@]HOST[:PORT], or another server of the target."),
    "vars": Field(ServerVars(), "Inventory variables.", default={}),
}

SERVER = TableOf(
    {
        "address": Field(ADDRESS, "Host name or IP address; default: the server's name."),
        **WAY,
        "groups": Field(ListOf(GROUP), "Inventory groups that the server is in.", default=[]),
    },
    lambda values, _table, _at: values,
)


class InlineServers(Struct, frozen=True):
    """Servers by name: nothing, an address, or a mapping; read to the values of each."""

    short: Kind
    long: TableOf

    def read(self, node: Node, at: Reading) -> dict[str, dict[str, Any]]:
        """All servers; faults of all of them are recorded."""
        table = as_table(node, at)
        if not table.entries:
            at.reject(node, "holds no server")
        found: dict[str, dict[str, Any]] = {}
        good = True
        for name, entry in table.entries.items():
            if not re.fullmatch(HOST, name):
                at.add(entry.key, HOST_WHY)
                good = False
            elif name in RESERVED:
                at.add(entry.key, f"'{name}' is a reserved name")
                good = False
            try:
                found[name] = {**self._one(entry.value, at), "place": entry.key.place}
            except Rejected:
                good = False
        if not good:
            raise Rejected
        return found

    def _one(self, node: Node, at: Reading) -> dict[str, Any]:
        if isinstance(node, Scalar):
            return {} if node.value is None else {"address": self.short.read(node, at)}
        values: dict[str, Any] = self.long.read(node, at)
        return values

    def schema(self) -> Schema:
        """An object of servers."""
        return {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": f"^{HOST}$", "not": {"enum": list(RESERVED)}},
            "additionalProperties": {"anyOf": [{"type": "null"}, self.short.schema(), self.long.schema()]},
        }


def _remote(values: dict[str, Any], table: Table, at: Reading) -> Remote:
    if "inventory" in values:
        for key in INLINE_ONLY:
            if key in table.entries:
                at.add(table.entries[key].key, "belongs to `hosts:`; an inventory says this itself")
        return Remote(name="", **{key: values[key] for key in ("inventory", "confirm") if key in values})
    way = {key: values[key] for key in ("user", "port", "key", "jump") if key in values}
    servers = tuple(Server(name=name, **{**way, **own}) for name, own in values["hosts"].items())
    servers = tuple(
        structs.replace(one, jump="") if one.jump == one.name and "jump" not in values["hosts"][one.name] else one
        for one in servers
    )
    _check_groups(servers, table, at)
    _check_jumps(servers, table, at)
    rest = {key: values[key] for key in ("known_hosts", "vars", "confirm") if key in values}
    return Remote(name="", servers=servers, **rest)


def _check_groups(servers: tuple[Server, ...], table: Table, at: Reading) -> None:
    names = {one.name for one in servers}
    for one in servers:
        for number, group in enumerate(one.groups):
            if group in names:
                at.add(_at(table, one.name, "groups", number), f"'{group}' is a server; a group needs another name")


def _check_jumps(servers: tuple[Server, ...], table: Table, at: Reading) -> None:
    """Servers that jump over each other in a circle."""
    by_name = {one.name: one for one in servers}
    for one in servers:
        path = [one.name]
        while (jump := by_name[path[-1]].jump) in by_name and jump not in path:
            path.append(jump)
        if jump == one.name:
            node = _at(table, one.name, "jump")
            at.add(node, f"servers jump over each other: {' → '.join([*path, jump])}")


def _at(table: Table, server: str, key: str, number: int | None = None) -> Node:
    """The node of a server's key, or of the target's where the server has none."""
    hosts = table.get("hosts")
    own = hosts.get(server) if isinstance(hosts, Table) else None
    node = (own.get(key) if isinstance(own, Table) else None) or table.get(key) or table
    items = getattr(node, "items", None)
    return items[number] if number is not None and isinstance(items, tuple) else node


REMOTE = TableOf(
    {
        "hosts": Field(InlineServers(ADDRESS, SERVER), "The servers, by name."),
        "inventory": Field(EXISTING, "An Ansible inventory: file, directory or script."),
        **WAY,
        "known_hosts": Field(FILE, "Host keys that count besides those of your own known_hosts."),
        "confirm": Field(
            choice(*get_args(Confirm)), "What answers before servers are changed: yes, or the target's name.",
            default="ask",
        ),
    },
    _remote,
    exactly_one=("hosts", "inventory"),
)  # fmt: skip

REMOTES = MapOf(REMOTE, TARGET, TARGET_WHY)


def write(one: Remote) -> dict[str, Any]:
    """The target as a Vmfile would write it."""
    if one.inventory:
        return {"inventory": str(one.inventory), "confirm": one.confirm}
    known = {"known_hosts": str(one.known_hosts)} if one.known_hosts else {}
    variables = {"vars": dict(one.vars)} if one.vars else {}
    servers = {server.name: _write_server(server) for server in one.servers}
    return {"hosts": servers, **known, **variables, "confirm": one.confirm}


def _write_server(one: Server) -> dict[str, Any]:
    way = {"address": one.address, "port": one.port, "user": one.user, "key": str(one.key or ""), "jump": one.jump}
    words = {key: value for key, value in way.items() if value}
    return {**words, "groups": list(one.groups), **({"vars": dict(one.vars)} if one.vars else {})}


def named(values: Mapping[str, Remote], table: Node | None) -> tuple[Remote, ...]:
    """The targets, each with its name and place."""
    keys = table.entries if isinstance(table, Table) else {}
    return tuple(structs.replace(one, name=name, place=keys[name].key.place) for name, one in values.items())


class Targets(Kind):
    """Whether a provisioner is for servers: true, false, or names of targets; read to names, None = all."""

    def read(self, node: Node, at: Reading) -> tuple[str, ...] | None:
        """The targets; unknown names are faults."""
        if isinstance(node, Scalar):
            value = at.scalar(node, "true, false or a list of targets")
            if not isinstance(value, bool):
                at.reject_value(node, f"expected true, false or a list of targets, got {describe(value)}")
            return None if value else ()
        names: tuple[str, ...] = ListOf(text("a target's name")).read(node, at)
        for number, name in enumerate(names):
            if name not in at.targets:
                item = getattr(node, "items", (node,))[number]
                at.add(item, f"there is no target '{name}' below `remotes:`{advise(name, at.targets)}")
        return names

    def schema(self) -> Schema:
        """A boolean or a list of names."""
        names = {"type": "array", "items": {"anyOf": [{"type": "string"}, EXPRESSION_SCHEMA]}, "maxItems": 1000}
        return {"anyOf": [{"type": "boolean"}, names, EXPRESSION_SCHEMA]}
