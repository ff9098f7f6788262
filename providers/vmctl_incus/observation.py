"""What the server tells of its instances: what each does, and which are machines of vmctl's; or what it cannot tell."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from vmctl.driver import UNTOLD, Observed, State
from vmctl.errors import Unreachable
from vmctl_incus import identity
from vmctl_incus.api import Api, resource, touched
from vmctl_incus.identity import Mark, instance_name

STATES = {
    "stopped": State.STOPPED,
    "running": State.RUNNING,
    "ready": State.RUNNING,
    "started": State.RUNNING,
    "thawed": State.RUNNING,
    "starting": State.STARTING,
    "stopping": State.STOPPING,
    "aborting": State.STOPPING,
    "freezing": State.PAUSED,
    "frozen": State.PAUSED,
}
"""The server's words for what an instance is doing."""
UNCLUSTERED = "none"
"""Where the only server says that its instances are."""
OFF = (State.STOPPED, State.CRASHED)
KEPT = re.compile("vmctl-(layer-[0-9a-f]{40}|box-[0-9a-f]{24}-[0-9a-f]{12})")
"""Names of what is no machine."""
STARTING = "Starting instance"
"""How the server describes the operation."""


class MemberOffline(Unreachable):
    """The instance is on a member of the cluster that does not answer: what it does and whose it is, nobody says."""

    def __init__(self, api: Api, name: str, member: str) -> None:
        client = "lxc" if api.product == "LXD" else "incus"
        super().__init__(
            f"{name} is on the cluster member {member}, which does not answer",
            details=f"{api.product} knows of the machine, but neither what it does nor whose it is.",
            hint=f"{client} cluster list",
        )
        self.member = member
        self.raw = f"member {member} does not answer"


def is_out_of_reach(found: Mapping[str, Any]) -> bool:
    """Whether the server lists a machine without being able to tell of it, as those of members that are away."""
    away = not found.get("config") and str(found.get("status")).lower() == "error"
    return away and not KEPT.fullmatch(str(found.get("name")))


def machines(api: Api) -> dict[str, Observed]:
    """As ``Driver.states``."""
    observed = {}
    listed = [(found, identity.read(found.get("config"))) for found in api.instances()]
    starting = _starting(api, [found for found, mark in listed if mark])
    for found, mark in listed:
        if mark:
            observed[mark.name] = _observed(found, mark, starting)
        elif is_out_of_reach(found):
            observed[str(found["name"])] = _offline(MemberOffline(api, "", str(found.get("location", ""))))
    return observed


def machine(api: Api, name: str) -> Observed | None:
    """As ``Driver.observe``."""
    try:
        fetched = fetch(api, name)
    except MemberOffline as error:
        return _offline(error)
    mark = identity.read(fetched[0].get("config")) if fetched else None
    if fetched is None or mark is None or mark.name != name:
        return None
    return _observed(fetched[0], mark, _starting(api, [fetched[0]]))


def fetch(api: Api, name: str) -> tuple[dict[str, Any], str] | None:
    """An instance, whosever it is, with the ETag of this state; None = there is none.

    Raises:
        MemberOffline: it is on a member of the cluster that does not answer.
    """
    own = instance_name(name)
    if member := _offline_member(api, own):
        raise MemberOffline(api, name, member)
    return api.found(resource("instances", own))


def state(found: Mapping[str, Any]) -> State:
    """What an instance does; UNKNOWN for "Error", which also stands for members of a cluster that are away."""
    return STATES.get(str(found.get("status")).lower(), State.UNKNOWN)


def is_off(found: Mapping[str, Any]) -> bool:
    """Whether an instance does nothing, by what the server says; it says so too of one that it starts."""
    return state(found) in OFF


def location(found: Mapping[str, Any]) -> str:
    """Where an instance is, as the server says."""
    return str(found.get("location", ""))


def member(found: Mapping[str, Any]) -> str:
    """The member of a cluster that has an instance; "" = the server is none."""
    return "" if (found_at := location(found)) == UNCLUSTERED else found_at


def _observed(found: Mapping[str, Any], mark: Mark, starting: Collection[str]) -> Observed:
    does = State.STARTING if found["name"] in starting else state(found)
    run = mark.run if does in (State.RUNNING, State.STARTING, State.PAUSED) else ""
    return Observed(state=does, tag=mark.tag, run=run, raw=str(found["status"]), member=member(found))


def _offline(error: MemberOffline) -> Observed:
    return Observed(state=State.UNKNOWN, tag=UNTOLD, raw=error.raw, member=error.member)


def _starting(api: Api, found: Collection[Mapping[str, Any]]) -> set[str]:
    """Those of some instances, by name, that the server lists as stopped while it starts them."""
    off = {resource("instances", str(each["name"])): str(each["name"]) for each in found if is_off(each)}
    if not off:
        return set()
    paths = {path for each in api.going_on() if each.get("description") == STARTING for path in touched(each)}
    return {name for path, name in off.items() if path in paths}


def _offline_member(api: Api, own: str) -> str:
    """The member that does not answer, which has an instance; "" = there is no such member.

    The list of all tells at once; asked for the instance itself, the server first tries for ten seconds.
    """
    if not api.is_clustered:
        return ""
    only = {"filter": f"name eq {own}"} if api.can("api_filtering") else {}
    listed = api.instances(**only)
    return next((str(each.get("location")) for each in listed if each["name"] == own and is_out_of_reach(each)), "")
