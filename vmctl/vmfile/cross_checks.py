"""What must hold between machines: names, host ports and dependencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmctl.spec import Dependency, Port
from vmctl.vmfile.dependencies import combined
from vmctl.vmfile.drafts import Draft
from vmctl.vmfile.faults import Faults
from vmctl.vmfile.nodes import Node, Table
from vmctl.vmfile.nodes import Sequence as ListNode

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  compared with, not bound to


def check(drafts: Sequence[Draft], faults: Faults) -> None:
    """Record what is wrong between machines."""
    _hostnames(drafts, faults)
    _primary(drafts, faults)
    _host_ports(drafts, faults)
    _guest_folders(drafts, faults)
    _circles(drafts, faults)


def item_node(draft: Draft, key: str, number: int) -> Node:
    """The node of an item of one of a machine's lists (or, of a mapping, the key)."""
    node = draft.layer[key]
    if isinstance(node, Table):
        return list(node.entries.values())[number].key
    return node.items[number] if isinstance(node, ListNode) else node


def _hostnames(drafts: Sequence[Draft], faults: Faults) -> None:
    owners: dict[str, str] = {}
    for draft in drafts:
        hostname = str(draft.values.get("hostname", draft.name)).lower()
        node = draft.layer.get("hostname")
        if hostname in owners and node is not None:
            message = f"'{owners[hostname]}' and '{draft.name}' would have the same host name"
            faults.add(node.place, node.path, f'{message}; write e.g. "{hostname}-{{{{ machine.index }}}}"')
        owners.setdefault(hostname, draft.name)


def _primary(drafts: Sequence[Draft], faults: Faults) -> None:
    primary = [draft for draft in drafts if draft.values.get("primary")]
    for draft in primary[1:]:
        node = draft.layer["primary"]
        message = f"'{primary[0].name}' is the primary machine already, '{draft.name}' cannot be it too"
        faults.add(node.place, node.path, message)


def _host_ports(drafts: Sequence[Draft], faults: Faults) -> None:
    holders: dict[tuple[str, int], list[tuple[Port, str]]] = {}
    for draft in drafts:
        for number, port in enumerate(draft.values.get("ports", ())):
            if port.host is None:
                continue
            others = holders.setdefault((port.protocol, port.host), [])
            for other, owner in others:
                if _overlap(port.host_ip, other.host_ip):
                    node = item_node(draft, "ports", number)
                    message = f"host port {port.host}/{port.protocol} of '{draft.name}' is taken by '{owner}' already"
                    faults.add(node.place, node.path, f"{message}; auto:{port.guest} picks a free one")
                    break
            others.append((port, draft.name))


def _guest_folders(drafts: Sequence[Draft], faults: Faults) -> None:
    for draft in drafts:
        seen: set[str] = set()
        for number, folder in enumerate(draft.values.get("synced_folders", ())):
            if folder.guest in seen:
                node = item_node(draft, "synced_folders", number)
                faults.add(node.place, node.path, f"there is already a folder at {folder.guest}")
            seen.add(folder.guest)


def _overlap(one: str, other: str) -> bool:
    return one == other or one in ANY_ADDRESS or other in ANY_ADDRESS


def dependencies(draft: Draft) -> tuple[Dependency, ...]:
    """The machines that a machine depends on, each once."""
    return combined(draft.values.get("depends_on", ()))


def _circles(drafts: Sequence[Draft], faults: Faults) -> None:
    needs = {
        draft.name: tuple(one.machine for one in dependencies(draft))
        for draft in drafts
        if draft.values.get("depends_on")
    }
    by_name = {draft.name: draft for draft in drafts}
    done: set[str] = set()
    for start in needs:
        if circle := _circle(start, needs, done):
            draft = by_name[circle[0]]
            node = _cause(draft, circle[1])
            faults.add(node.place, node.path, f"machines wait for each other: {' → '.join(circle)}")


def _circle(start: str, needs: Mapping[str, tuple[str, ...]], done: set[str]) -> list[str]:
    """The first circle that is reached from ``start``, closed ("a", "b", "a"); empty when there is none."""
    path: list[str] = []
    stack = [iter((start,))]
    while stack:
        name = next(stack[-1], None)
        if name is None:
            stack.pop()
            if path:
                done.add(path.pop())
        elif name in path:
            done.update(path)
            return [*path[path.index(name) :], name]
        elif name not in done:
            path.append(name)
            stack.append(iter(needs.get(name, ())))
    return []


def _cause(draft: Draft, needed: str) -> Node:
    """The item of ``depends_on`` that asks for a machine."""
    items = draft.values["depends_on"]
    number = next(number for number, item in enumerate(items) if any(one.machine == needed for one in item))
    return item_node(draft, "depends_on", number)
