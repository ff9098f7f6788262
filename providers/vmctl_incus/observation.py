"""What the server lists, as the machines of vmctl's that it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vmctl.driver import UNTOLD, Observed, State
from vmctl_incus import handle, identity, states
from vmctl_incus.api import Api
from vmctl_incus.identity import Mark
from vmctl_incus.instance import member


def machines(api: Api) -> dict[str, Observed]:
    """As ``Driver.states``."""
    observed = {}
    listed = [(found, identity.read(found.get("config"))) for found in api.instances()]
    starting = handle.starting(api, [found for found, mark in listed if mark])
    for found, mark in listed:
        if mark:
            observed[mark.name] = _observed(found, mark, starting)
        elif handle.is_out_of_reach(found):
            observed[str(found["name"])] = _offline(handle.MemberOffline(api, "", str(found.get("location", ""))))
    return observed


def machine(api: Api, name: str) -> Observed | None:
    """As ``Driver.observe``."""
    try:
        fetched = handle.fetch(api, name)
    except handle.MemberOffline as error:
        return _offline(error)
    mark = identity.read(fetched[0].get("config")) if fetched else None
    if fetched is None or mark is None or mark.name != name:
        return None
    return _observed(fetched[0], mark, handle.starting(api, [fetched[0]]))


def _observed(found: Mapping[str, Any], mark: Mark, starting: Collection[str]) -> Observed:
    state = State.STARTING if found["name"] in starting else states.state(found["status"])
    run = mark.run if state in (State.RUNNING, State.STARTING, State.PAUSED) else ""
    return Observed(state=state, tag=mark.tag, run=run, raw=str(found["status"]), member=member(found))


def _offline(error: handle.MemberOffline) -> Observed:
    return Observed(state=State.UNKNOWN, tag=UNTOLD, raw=error.raw, member=error.member)
