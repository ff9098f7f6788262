"""What the server tells of its instances."""

from __future__ import annotations

from vmctl.driver import State
from vmctl_incus import observation


def test_what_the_server_cannot_tell_is_unknown() -> None:
    assert observation.state({"status": "Running"}) is State.RUNNING
    assert {observation.state({"status": word}) for word in ("Error", "", "Something new")} == {State.UNKNOWN}
